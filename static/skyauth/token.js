// Takes the text to the program that waits on this computer, as SkyPilot's own page does; what cannot be sent stays to be pasted.
"use strict";

const box = document.getElementById("token-box");
const show = (name, shown = true) => { document.getElementById(name).hidden = !shown; };

const copy = document.getElementById("copy");
copy.hidden = !navigator.clipboard;
copy.addEventListener("click", async () => {
  await navigator.clipboard.writeText(box.textContent);
  copy.textContent = "Copied";
});

const send = async (port) => {
  show("sending");
  show("text", false);
  try {
    const answer = await fetch(`http://localhost:${port}`, { method: "POST", body: box.textContent, credentials: "omit" });
    if (!answer.ok) throw new Error(String(answer.status));
    show("sent");
  } catch {
    show("not-sent");
    show("text");
  }
  show("sending", false);
};

if (/^[0-9]+$/.test(box.dataset.port ?? "")) send(box.dataset.port);
