// What pages do beyond plain forms and links. Each of them works without it.
"use strict";

// Copies the text of the element that `data-copy` names, and says so. The button is hidden where there is no script.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.querySelector(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent.trim());
  } catch {
    // Without https browsers have no clipboard to write to: select, so that one key does it.
    getSelection().selectAllChildren(source);
    button.textContent = "Selected";
    return;
  }
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 2000);
});

// Asks before a button with `data-confirm` sends its form.
const dialog = document.getElementById("confirm");
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-confirm]");
  if (!button || button.dataset.confirmed) return;
  event.preventDefault();
  event.stopPropagation();
  dialog.querySelector("p").textContent = button.dataset.confirm;
  dialog.returnValue = "no";
  dialog.showModal();
  dialog.addEventListener("close", () => {
    if (dialog.returnValue !== "yes") return;
    button.dataset.confirmed = "yes";
    button.click();
    delete button.dataset.confirmed;
  }, { once: true });
}, true);

// A box with `data-all` ticks all boxes of that name that belong to its form.
document.addEventListener("change", (event) => {
  const all = event.target.closest("[data-all]");
  if (!all) return;
  for (const box of all.form.elements) if (box.name === all.dataset.all) box.checked = all.checked;
});

// A select with `data-auto` sends its form when another value is chosen; its button, for those without script, goes.
document.addEventListener("change", (event) => {
  if (event.target.closest("[data-auto]")) event.target.form.requestSubmit();
});

document.documentElement.classList.add("scripted");

// A refused change in place: the form shows again what the server has.
document.addEventListener("htmx:afterRequest", (event) => {
  if (!event.detail.successful && event.target.matches("td form")) event.target.reset();
});

// What never reached the server, or broke there.
function tell(text) {
  const line = document.createElement("p");
  line.className = "message error";
  line.textContent = text;
  document.getElementById("messages").replaceChildren(line);
}
document.addEventListener("htmx:sendError", () => tell("SkyAuth cannot be reached. Nothing was changed; try it again."));
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.xhr.status < 500) return;
  event.detail.shouldSwap = false;
  tell("SkyAuth could not do this now. Load the page again to see what was changed.");
});
