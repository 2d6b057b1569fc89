// Sends the token to the port on which the user's own CLI listens. The token is read from the page, so that this file is the
// same for everybody. "no-cors": the CLI sends no CORS headers, and the page does not need to read its response.
"use strict";

const delivery = document.getElementById("delivery");
const token = document.getElementById("token-box").textContent.trim();

fetch(`http://localhost:${Number(delivery.dataset.port)}`, {
  method: "POST",
  mode: "no-cors",
  credentials: "omit",
  referrerPolicy: "no-referrer",
  body: token,
}).then(
  () => {
    delivery.textContent = delivery.dataset.sent;
  },
  () => {
    delivery.textContent = `${delivery.dataset.failed} ${delivery.textContent.trim()}`;
  },
);
