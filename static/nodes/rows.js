// Action menus: they open upwards where there is no room below, and the arrow keys walk through them. Escape and a click
// outside are in console.js. Without this file they still open, close and can be walked with Tab.
"use strict";
(() => {
  const OPEN = "details.menu[open]";

  function place(menu) {
    const list = menu.querySelector("ul");
    if (!list) return;
    menu.classList.remove("up");
    const button = menu.getBoundingClientRect();
    const needed = list.offsetHeight + 12;
    const below = document.documentElement.clientHeight - button.bottom;
    menu.classList.toggle("up", below < needed && button.top >= needed);
  }

  // "toggle" does not bubble: it is caught on its way down. It also tells of menus that a new list opens again.
  document.addEventListener("toggle", (event) => {
    const menu = event.target;
    if (menu instanceof HTMLElement && menu.matches(OPEN)) place(menu);
  }, true);

  document.addEventListener("keydown", (event) => {
    const menu = event.target instanceof Element ? event.target.closest("details.menu") : null;
    if (!menu || !["ArrowDown", "ArrowUp", "Home", "End"].includes(event.key)) return;
    event.preventDefault();
    menu.open = true;
    const links = [...menu.querySelectorAll("ul a[href]")];
    if (!links.length) return;
    const at = links.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at < 0 ? links.length - 1 : at - 1, Home: 0, End: links.length - 1 }[event.key];
    links[(to + links.length) % links.length].focus();
  });
})();
