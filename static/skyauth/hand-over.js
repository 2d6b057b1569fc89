// Sends the token to the port on which the person's own command line listens. It has the token from the page, so that this file
// is the same for everybody. "no-cors": the command line need not let this page read its answer, only hear it.
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
