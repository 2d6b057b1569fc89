// Conveniences. Every page also works without this script.
"use strict";

// `data-copy`: copies the text of the element with this selector. Without a script, the button is hidden.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.querySelector(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent.trim());
  } catch {
    // Without https there is no clipboard API: select the text, so that the user can copy it.
    getSelection().selectAllChildren(source);
    button.textContent = "Selected";
    return;
  }
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 2000);
});

// `data-confirm`: asks before the button submits its form. The dialog's button repeats the text of the button.
const dialog = document.getElementById("confirm");
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-confirm]");
  if (!button || button.dataset.confirmed) return;
  event.preventDefault();
  event.stopPropagation();
  if (!button.form.reportValidity()) return;
  dialog.querySelector("p").textContent = button.dataset.confirm;
  dialog.querySelector("[value=yes]").textContent = button.textContent.trim();
  dialog.returnValue = "no";
  dialog.showModal();
  dialog.addEventListener("close", () => {
    if (dialog.returnValue !== "yes") return;
    button.dataset.confirmed = "yes";
    button.click();
    delete button.dataset.confirmed;
  }, { once: true });
}, true);

// `data-all`: a checkbox that checks all checkboxes of this name in its form.
document.addEventListener("change", (event) => {
  const all = event.target.closest("[data-all]");
  if (!all) return;
  for (const box of all.form.elements) if (box.name === all.dataset.all) box.checked = all.checked;
});

// A form is sent once, also on a double click. It can be sent again after an answer that did not replace the page.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (form.dataset.sent) {
    event.preventDefault();
    event.stopImmediatePropagation();
    return;
  }
  form.dataset.sent = "yes";
  setTimeout(() => { delete form.dataset.sent; }, 10000);
}, true);
addEventListener("pageshow", () => {
  for (const form of document.forms) delete form.dataset.sent;
});
document.addEventListener("htmx:afterRequest", (event) => { delete event.target.dataset.sent; });

document.documentElement.classList.add("scripted");

// Requests that did not reach the server, or failed there.
function showError(text) {
  const line = document.createElement("p");
  line.className = "message error";
  line.textContent = text;
  document.getElementById("messages").replaceChildren(line);
}
document.addEventListener("htmx:sendError", () => showError("SkyAuth cannot be reached. Nothing was changed. Try again."));
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.xhr.status < 500) return;
  event.detail.shouldSwap = false;
  showError("The server returned an error. Reload the page to see what was changed.");
});
