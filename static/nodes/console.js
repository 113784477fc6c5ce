// Live lists, popups and notices. Every screen works without this file too.
"use strict";
(() => {
  const _ = window.gettext || ((text) => text);
  const LANGUAGE = document.documentElement.lang || undefined; // of the page, not of the browser
  const POLL = 2000;
  const PATIENCE = 6000;
  const dialog = document.getElementById("dialog");
  const live = () => document.getElementById("live");
  let heard = Date.now();
  let opener = null;

  // --- polling: not on hidden tabs; also below an open popup or menu, so that what is seen is never old unnoticed
  setInterval(() => {
    if (live() && !document.hidden) htmx.trigger(live(), "poll");
    markStale();
    countAges();
  }, POLL);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && live()) { heard = Date.now(); htmx.trigger(live(), "poll"); }
  });
  document.body.addEventListener("htmx:configRequest", (event) => {
    const box = live();
    if (box && event.detail.elt === box) {
      const changed = event.detail.triggeringEvent && event.detail.triggeringEvent.type === "list:changed";
      if (!changed) event.detail.parameters.v = box.dataset.stamp;
    }
  });
  document.body.addEventListener("htmx:afterRequest", (event) => {
    const status = event.detail.xhr ? event.detail.xhr.status : 0;
    if (status >= 200 && status < 300) heard = Date.now();
    markStale();
    // The list itself may no longer be seen: the page says why. A popup says so itself (errors.js).
    if (status === 403 && event.detail.elt === live()) location.reload();
  });
  function markStale() {
    const banner = document.getElementById("stale");
    if (!banner || document.hidden) return;
    const stale = Date.now() - heard > PATIENCE;
    banner.hidden = !stale;
    document.body.classList.toggle("is-stale", stale);
    if (stale) banner.querySelector("[data-stale-since]").textContent = new Date(heard).toLocaleTimeString(LANGUAGE);
  }

  // --- ages count on in the browser; the server sends them with every answer, also with 204
  const ages = new Map();
  function ageText(seconds) {
    if (seconds === null) return null;
    if (seconds < 2) return _("just now");
    const ago = (text, unit) => text.replace("%d", Math.floor(seconds / unit));
    if (seconds < 120) return ago(_("%d s ago"), 1);
    if (seconds < 7200) return ago(_("%d min ago"), 60);
    if (seconds < 172800) return ago(_("%d h ago"), 3600);
    return ago(_("%d days ago"), 86400);
  }
  function learnAges(found) {
    for (const [key, seconds] of Object.entries(found)) ages.set(key, seconds === null ? null : Date.now() - seconds * 1000);
    countAges();
  }
  function countAges() {
    for (const span of document.querySelectorAll(".age[data-age-key]")) {
      const since = ages.get(span.dataset.ageKey);
      if (since !== undefined && since !== null) span.textContent = ageText((Date.now() - since) / 1000);
    }
  }
  function readAges() {
    for (const span of document.querySelectorAll(".age[data-age-key]"))
      if (!ages.has(span.dataset.ageKey) && span.dataset.age !== "") ages.set(span.dataset.ageKey, Date.now() - Number(span.dataset.age) * 1000);
  }
  document.body.addEventListener("ages", (event) => learnAges(event.detail.value || event.detail));

  // --- times in the reader's own zone, UTC on hover
  function localTimes(root) {
    for (const time of root.querySelectorAll("time[datetime]:not([data-local])")) {
      const at = new Date(time.getAttribute("datetime"));
      const today = at.toDateString() === new Date().toDateString();
      time.textContent = today ? at.toLocaleTimeString(LANGUAGE) : at.toLocaleString(LANGUAGE);
      time.dataset.local = "";
    }
  }

  // --- popups
  document.body.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.target && event.detail.target.id === "dialog-body" && !dialog.open) opener = event.detail.elt.id;
  });
  // --- a new list keeps the menu that is open, and the focus has a place to go when its own is gone
  let openMenus = [];
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target.id === "live")
      openMenus = [...document.querySelectorAll("details:is(.menu, .keep)[open] > summary")].map((summary) => summary.id);
  });
  function reopenMenus() {
    for (const id of openMenus) {
      const summary = document.getElementById(id);
      if (summary) summary.parentElement.open = true;
    }
    openMenus = [];
  }
  function focusOpener() {
    if (!opener) return;
    const link = document.getElementById(opener);
    const menu = link && link.closest("details.menu");
    const place = menu ? menu.querySelector("summary") : link || document.querySelector(".screen-head h1");
    if (place) place.focus();
  }

  document.body.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.id === "live") {
      reopenMenus();
      if (!dialog.open && document.activeElement === document.body) focusOpener();
    }
    if (event.detail.target.id === "dialog-body") {
      if (!dialog.open && event.detail.xhr.responseText.includes("dialog-title")) dialog.showModal();
    }
    localTimes(document);
    readAges();
    showClosers(document);
  });
  // After settling: htmx itself focuses [autofocus] until then, also when another field is wrong.
  document.body.addEventListener("htmx:afterSettle", (event) => {
    if (event.detail.target.id !== "dialog-body") return;
    const first = dialog.querySelector(".wrong input, .wrong select") || dialog.querySelector("[autofocus]");
    if (first) first.focus();
  });
  document.body.addEventListener("dialog:close", () => dialog.close());
  dialog.addEventListener("close", () => {
    document.getElementById("dialog-body").replaceChildren();
    focusOpener();
  });
  document.addEventListener("focusin", (event) => {
    // Whoever has gone elsewhere is not called back by a later list.
    if (!dialog.open && event.target.id !== opener && !event.target.closest("details.menu")) opener = null;
  });

  // --- notices, menus
  function showClosers(root) {
    for (const button of root.querySelectorAll(".close[hidden]")) button.hidden = false;
    for (const notice of root.querySelectorAll("[data-notice]:not([data-sticky]):not([data-timed])")) {
      notice.dataset.timed = "";
      setTimeout(() => notice.remove(), 8000);
    }
    const operation = root.querySelector("[data-operation]");
    if (operation && sessionStorage.getItem("dismissed") === operation.dataset.operation && operation.querySelector("[data-dismiss-operation]")) operation.hidden = true;
  }
  document.addEventListener("click", (event) => {
    const target = event.target;
    if (dialog.open && (target === dialog || target.closest("[data-close]"))) {
      event.preventDefault();
      dialog.close();
    }
    const notice = target.closest("[data-close-notice]");
    if (notice) notice.closest("[data-notice]").remove();
    const operation = target.closest("[data-dismiss-operation]");
    if (operation) {
      const box = operation.closest("[data-operation]");
      sessionStorage.setItem("dismissed", box.dataset.operation);
      box.hidden = true;
    }
    for (const menu of document.querySelectorAll("details.menu[open]"))
      if (!menu.contains(target) || target.closest("a")) menu.open = false;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });
  localTimes(document);
  readAges();
  showClosers(document);
})();
