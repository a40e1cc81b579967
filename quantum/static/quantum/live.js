/* Keeps a part of a page fresh: <section data-live="address" data-live-every-ms="2000">. The address answers with that
   part as HTML, made by the same template. What the part shows is never older than it says: after STALE_MS without a
   new look a notice stands above it and nothing in it is green any more. A hidden page asks for nothing.
   It asks when what it shows is so old, not so often: all who look come to share the look that one of them caused. */
(function () {
    "use strict";
    const STALE_MS = 5000;
    const GIVE_UP_MS = 4000;
    const TICK_MS = 250;
    const AGAIN_MS = 500; /* after a look that was old already: somebody's new one is being made */

    function begin(part) {
        const every = Number(part.dataset.liveEveryMs) || 2000;
        const bar = document.createElement("p");
        const age = document.createElement("span");
        const pause = document.createElement("button");
        const notice = document.createElement("span");
        let looked = performance.now() - (Number(part.dataset.liveAgeMs) || 0);
        let next = looked + every;
        let paused = false;
        let asking = false;
        let why = "";

        bar.className = "live-bar";
        age.className = "num";
        pause.type = "button";
        pause.className = "button plain";
        pause.textContent = "Pause";
        notice.className = "notice";
        notice.setAttribute("role", "status");
        notice.hidden = true;
        bar.append(age, pause, notice);
        part.before(bar);

        function tell() {
            const old = performance.now() - looked;
            const stale = old > STALE_MS;
            age.textContent = (paused ? "Paused, updated " : "Updated ") + Math.floor(old / 1000) + " s ago";
            part.classList.toggle("stale", stale);
            if (notice.hidden === stale) {
                notice.hidden = !stale;
                notice.textContent = stale
                    ? "Old: not updated for more than 5 s" + (paused ? ", paused." : "." + why + " Do not decide by it.")
                    : "";
            }
        }

        function put(text) {
            const focused = part.contains(document.activeElement) ? document.activeElement : null;
            const open = Array.from(part.querySelectorAll("details[open][id]"), function (each) { return each.id; });
            const fresh = document.createElement("template");
            fresh.innerHTML = text;
            part.replaceChildren(fresh.content);
            open.forEach(function (id) { document.getElementById(id)?.setAttribute("open", ""); });
            if (focused) {
                again(focused)?.focus({ preventScroll: true });
            }
        }

        function again(was) {
            return Array.from(part.querySelectorAll("a, [id]")).find(function (each) {
                return was.id ? each.id === was.id : Boolean(was.href) && each.href === was.href;
            });
        }

        /* Somebody marks text to copy it: it must not vanish under his hand. */
        function reading() {
            const selection = window.getSelection();
            return selection && !selection.isCollapsed && part.contains(selection.anchorNode);
        }

        function due() {
            if (performance.now() >= next) {
                ask();
            }
        }

        async function ask() {
            if (paused || asking || document.hidden || reading()) {
                return;
            }
            asking = true;
            try {
                const answer = await fetch(part.dataset.live, {
                    credentials: "same-origin", redirect: "error", signal: AbortSignal.timeout(GIVE_UP_MS),
                });
                if (!answer.ok) {
                    throw new Error("the server answered " + answer.status);
                }
                const text = await answer.text();
                const age_ms = Number(answer.headers.get("X-Age-Ms")) || 0;
                if (!paused) {
                    part.dataset.liveAgeMs = age_ms; /* for whoever counts on from what the server said */
                    put(text);
                    looked = performance.now() - age_ms;
                    why = "";
                }
                next = Math.max(looked + every, performance.now() + AGAIN_MS);
            } catch (failure) {
                why = " The server gave no answer, or you are logged out.";
                next = performance.now() + every;
            } finally {
                asking = false;
                tell();
            }
        }

        pause.addEventListener("click", function () {
            paused = !paused;
            pause.textContent = paused ? "Go on" : "Pause";
            notice.hidden = true;
            tell();
            ask();
        });
        document.addEventListener("visibilitychange", function () { tell(); ask(); });
        window.setInterval(due, TICK_MS);
        window.setInterval(tell, 500);
        tell();
    }

    document.querySelectorAll("[data-live]").forEach(begin);
})();
