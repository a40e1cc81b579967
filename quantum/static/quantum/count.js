/* How many are chosen, in the words of the button. Without it the button says "the chosen". */
for (const shown of document.querySelectorAll("[data-count-of]")) {
  const form = shown.closest("form");
  const boxes = [...form.elements].filter((each) => each.type === "checkbox" && each.name === shown.dataset.countOf);
  const count = () => { shown.textContent = String(boxes.filter((each) => each.checked).length); };
  form.addEventListener("change", count);
  count();
}
