/* <button data-copy="id of an element" hidden>: copies its text. Without a script nobody sees the button. */
(function () {
    "use strict";
    const SAID_MS = 1500;

    function mark(place) {
        const range = document.createRange();
        range.selectNodeContents(place);
        const selection = window.getSelection();
        selection.removeAllRanges();
        selection.addRange(range);
    }

    document.querySelectorAll("[data-copy]").forEach(function (button) {
        const words = button.textContent;
        button.hidden = false;
        button.addEventListener("click", async function () {
            const place = document.getElementById(button.dataset.copy);
            try {
                await navigator.clipboard.writeText(place.textContent);
                button.textContent = "Copied";
            } catch (refused) {
                mark(place); /* no clipboard without https: it is marked, Ctrl+C takes it */
                button.textContent = "Marked";
            }
            window.setTimeout(function () { button.textContent = words; }, SAID_MS);
        });
    });
})();
