/* Keys for whoever has no time for a mouse: / finds, g and a letter goes, ? tells, Esc leaves. Nothing here can
   be done by a key alone: each has a link or a field. */
(function () {
    "use strict";
    const GO_MS = 1200;
    const help = document.getElementById("keys");
    const hint = document.querySelector("[data-keys-open]");
    const finder = document.querySelector("#searchbar") || document.querySelector("[data-find]");
    let goUntil = 0;

    function typing(place) {
        return place instanceof Element && Boolean(place.closest("input, textarea, select, [contenteditable]"));
    }

    function tell() {
        if (help && !help.open) {
            help.showModal();
        }
    }

    function go(key) {
        const link = Array.from(document.querySelectorAll("[data-go]")).find(function (each) {
            return each.dataset.go === key;
        });
        if (link) {
            window.location.assign(link.href);
        }
    }

    document.addEventListener("keydown", function (event) {
        if (event.ctrlKey || event.metaKey || event.altKey) {
            return;
        }
        if (event.key === "Escape" && typing(document.activeElement)) {
            document.activeElement.blur();
            return;
        }
        if (typing(event.target) || (help && help.open)) {
            return;
        }
        if (performance.now() < goUntil) {
            goUntil = 0;
            go(event.key);
        } else if (event.key === "g") {
            goUntil = performance.now() + GO_MS;
        } else if (event.key === "/" && finder) {
            event.preventDefault();
            finder.focus();
            finder.select();
        } else if (event.key === "?") {
            tell();
        }
    });

    if (hint && help) {
        hint.hidden = false;
        hint.addEventListener("click", tell);
    }
})();
