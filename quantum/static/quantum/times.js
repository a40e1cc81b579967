/* Every <time datetime> is written in UTC by the server. The button in the header turns all of them to this browser's
   own time and back; the choice is kept here, not on the server. What a live part brings is turned too. The offset is
   said at each time: it may differ from one day to the next. */
(function () {
    "use strict";
    const KEPT = "quantum.times";
    const button = document.querySelector("[data-times]");
    const written = new WeakMap(); /* what the server wrote, while something else is shown */
    let local = false;

    function two(number) {
        return String(number).padStart(2, "0");
    }

    function zone(at) {
        const minutes = -at.getTimezoneOffset();
        const size = Math.abs(minutes);
        return "UTC" + (minutes < 0 ? "-" : "+") + two(Math.floor(size / 60)) + ":" + two(size % 60);
    }

    function turn(place) {
        const at = new Date(place.dateTime);
        if (written.has(place) || Number.isNaN(at.getTime())) {
            return;
        }
        const clock = document.createElement("b");
        written.set(place, Array.from(place.childNodes));
        clock.textContent = two(at.getHours()) + ":" + two(at.getMinutes()) + ":" + two(at.getSeconds())
            + "." + String(at.getMilliseconds()).padStart(3, "0");
        place.title = place.textContent;
        place.replaceChildren(
            at.getFullYear() + "-" + two(at.getMonth() + 1) + "-" + two(at.getDate()) + " ", clock, " " + zone(at));
    }

    function turnBack(place) {
        if (written.has(place)) {
            place.replaceChildren(...written.get(place));
            place.removeAttribute("title");
            written.delete(place);
        }
    }

    function show() {
        document.querySelectorAll("time[datetime]").forEach(local ? turn : turnBack);
        button.textContent = local ? "Local" : "UTC";
        button.setAttribute("aria-label", local ? "Local times are shown: show UTC" : "UTC is shown: show local times");
    }

    function kept() {
        try {
            return window.localStorage.getItem(KEPT) === "local";
        } catch (refused) {
            return false; /* a browser that keeps nothing starts with UTC each time */
        }
    }

    function keep() {
        try {
            window.localStorage.setItem(KEPT, local ? "local" : "utc");
        } catch (refused) {
            /* it holds for this page */
        }
    }

    if (!button) {
        return;
    }
    local = kept();
    button.hidden = false;
    show();
    button.addEventListener("click", function () {
        local = !local;
        keep();
        show();
    });
    window.addEventListener("storage", function (event) {
        if (event.key === KEPT) {
            local = kept();
            show();
        }
    });
    new MutationObserver(function () {
        if (local) {
            document.querySelectorAll("time[datetime]").forEach(turn);
        }
    }).observe(document.body, { childList: true, subtree: true });
})();
