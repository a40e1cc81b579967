/* Counts down what is left of each permit from what the server said when the page was made, and says how
   old that look is. A count that reached zero is no proof: the server's word is one look away. */
(function () {
    "use strict";
    const OLD_S = 5;
    const started = performance.now();
    const permits = Array.from(document.querySelectorAll("[data-ttl-ms]")).map(function (place) {
        return { place: place, left: Number(place.dataset.ttlMs) };
    });
    const looked = document.querySelector("[data-looked]");

    function tell() {
        const passed = performance.now() - started;
        permits.forEach(function (permit) {
            const left = permit.left - passed;
            permit.place.textContent = left > 0 ? (left / 1000).toFixed(1) + " s" : "time is over";
            permit.place.classList.toggle("over", left <= 0);
        });
        if (looked) {
            const age = Math.floor(passed / 1000);
            looked.textContent = age < 1 ? "" : ", " + age + " s ago";
            looked.classList.toggle("old", age > OLD_S);
        }
    }

    tell();
    window.setInterval(tell, 200);
})();
