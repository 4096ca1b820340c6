// Countdowns, and pages that keep up with the stock. Without this file all works but that.
"use strict";

// The server says how many seconds are left, by the database's clock. This browser's clock only
// measures how much time has gone by since, so that it may be set wrong.
const countdowns = new WeakMap();

function tick() {
  let over = false;
  for (const element of document.querySelectorAll(".countdown")) {
    if (!countdowns.has(element)) {
      countdowns.set(element, Date.now() + 1000 * Number(element.dataset.seconds));
    }
    const seconds = Math.max(0, Math.ceil((countdowns.get(element) - Date.now()) / 1000));
    const text = Math.floor(seconds / 60) + ":" + String(seconds % 60).padStart(2, "0");
    if (element.textContent !== text) {
      element.textContent = text;
    }
    element.classList.toggle("countdown--soon", seconds <= 60);
    over = over || seconds === 0;
  }
  if (over) {
    lookAgain();
  }
}

let lookedAt = 0;

function lookAgain() {
  const part = document.querySelector("[data-look-again]");
  if (part && Date.now() - lookedAt > 5000) { // the answer may take a while, or fail
    lookedAt = Date.now();
    htmx.trigger(part, "look-again");
  }
}

tick();
setInterval(tick, 250);

// A page that comes back by the back button shows what was true when it was left.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) {
    lookAgain();
  }
});

// A tab that nobody looks at asks nothing; an answer that says nothing new changes nothing.
document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && event.target.hasAttribute("data-live")) {
    event.preventDefault();
  }
});
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.serverResponse.trim() === event.detail.target.innerHTML.trim()) {
    event.detail.shouldSwap = false;
  }
});
