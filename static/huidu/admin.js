/* Small habits of our pages: times that count on, and forms that are sent once. */
(function () {
  "use strict";
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches("form[data-once]")) return;
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "1";
  });
  /* The sentence of a guard follows the margin that is typed. */
  document.addEventListener("input", (event) => {
    const key = event.target.dataset.margin;
    const margin = Number(event.target.value);
    if (!key || !(margin > 0)) return;
    for (const [name, share] of [["margin", margin], ["half", margin / 2]]) {
      for (const place of document.querySelectorAll(`[data-${name}-of="${CSS.escape(key)}"]`)) {
        place.textContent = `${Number(share.toPrecision(4))} %`;
      }
    }
  });
})();
