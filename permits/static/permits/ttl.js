/* Counts down what is left of each permit from what the server said when that part was made. A count that reached zero
   is no proof: the server's word is one look away. Where what stands is no longer what the forms below were made for,
   it says so. */
(function () {
    "use strict";
    const begun = new WeakMap();

    /* When this number was true, by the clock of this page. */
    function said(place) {
        if (!begun.has(place)) {
            const part = place.closest("[data-live]");
            begun.set(place, performance.now() - (part ? Number(part.dataset.liveAgeMs) || 0 : 0));
        }
        return begun.get(place);
    }

    function count(place) {
        const left = Number(place.dataset.ttlMs) - (performance.now() - said(place));
        place.textContent = left > 0 ? (left / 1000).toFixed(1) + " s" : "time is over";
        place.classList.toggle("over", left <= 0);
    }

    function compare() {
        const stands = document.querySelector("[data-seen]");
        const notice = document.querySelector("[data-changed]");
        const form = document.querySelector('.acts input[name="seen"]');
        if (stands && notice && form) {
            notice.hidden = stands.dataset.seen === form.value;
        }
    }

    function tell() {
        document.querySelectorAll("[data-ttl-ms]").forEach(count);
        compare();
    }

    tell();
    window.setInterval(tell, 200);
})();
