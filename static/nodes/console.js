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
  let openersMenu = "";

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
    // The list itself may no longer be seen: the page says why. A popup says so itself (below).
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
    if (!event.detail.target || event.detail.target.id !== "dialog-body" || dialog.open) return;
    const menu = event.detail.elt.closest("details.menu");
    opener = event.detail.elt.id;
    openersMenu = menu ? menu.querySelector("summary").id : ""; // it stays when a new list no longer offers the entry
  });
  // --- a new list keeps the menu that is open, and the focus has a place to go when its own is gone
  let openMenus = [];
  let place = null; // of the focus: htmx itself finds only what has an id and is seen at once
  const alike = (kind) => [...live().querySelectorAll(kind.tag)].filter((each) => each.getAttribute("href") === kind.href && each.textContent === kind.text);
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target.id !== "live") return;
    openMenus = [...document.querySelectorAll("details:is(.menu, .keep)[open] > summary")].map((summary) => summary.id);
    const at = document.activeElement;
    place = null;
    if (live().contains(at)) {
      const kind = { tag: at.tagName, href: at.getAttribute("href"), text: at.textContent };
      place = { ...kind, number: alike(kind).indexOf(at) };
    }
  });
  function refocus() {
    const again = place && document.activeElement === document.body ? alike(place)[place.number] : null;
    place = null;
    if (again) again.focus({ preventScroll: true });
  }
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
    const place = menu ? menu.querySelector("summary") : link || document.getElementById(openersMenu) || document.querySelector(".screen-head h1");
    if (place) place.focus();
  }

  document.body.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.id === "live") reopenMenus();
    if (event.detail.target.id === "dialog-body") {
      if (!dialog.open && event.detail.xhr.responseText.includes("dialog-title")) dialog.showModal();
    }
    localTimes(document);
    readAges();
    showClosers(document);
    if (event.detail.target.id === "live") {
      announce();
      refocus();
      if (!dialog.open && document.activeElement === document.body) focusOpener();
    }
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

  // --- progress for who hears the screen: a live region that a new list would replace is not read out, so this one stays outside
  let announced = new Set();
  function announce() {
    const box = document.getElementById("announcer");
    if (!box || !live()) return;
    const now = [...live().querySelectorAll("[data-announce]")].filter((each) => !each.hidden).map((each) => each.dataset.announce);
    const fresh = now.filter((text) => !announced.has(text));
    if (fresh.length) box.textContent = fresh.join(". ");
    announced = new Set(now);
  }

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
  announced = new Set([...document.querySelectorAll("#live [data-announce]")].map((each) => each.dataset.announce)); // a page is read anyway
})();

// "3 s ago" as a moment.
(() => {
  // The age comes with every answer, so the moment needs no new list
  const language = document.documentElement.lang || undefined;
  const moments = new Map();
  function writeMoments() {
    for (const time of document.querySelectorAll("time[data-at-age]")) {
      const at = moments.get(time.dataset.atAge);
      if (at === undefined) continue;
      const moment = new Date(at);
      const today = moment.toDateString() === new Date().toDateString();
      time.textContent = today ? moment.toLocaleTimeString(language) : moment.toLocaleString(language);
      time.dateTime = moment.toISOString();
      time.title = `${moment.toISOString().slice(0, 19).replace("T", " ")} UTC`;
    }
  }
  function learn(key, seconds) {
    if (seconds === null) return;
    const at = Date.now() - seconds * 1000;
    // The answer's way here is not always equally long: the same moment does not jump about.
    if (!moments.has(key) || Math.abs(at - moments.get(key)) > 1000) moments.set(key, at);
  }
  document.body.addEventListener("ages", (event) => {
    for (const [key, seconds] of Object.entries(event.detail.value || event.detail)) learn(key, seconds);
    writeMoments();
  });
  document.body.addEventListener("htmx:afterSwap", writeMoments);
  for (const span of document.querySelectorAll(".age[data-age-key]"))
    if (span.dataset.age) learn(span.dataset.ageKey, Number(span.dataset.age));
  writeMoments();
})();

// Action menus: they open upwards where there is no room below, and the arrow keys walk through them. Escape and a click
// outside are above. Without this file they still open, close and can be walked with Tab.
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

// What htmx asked for and did not get: one sentence, in the popup when one is open, else as a notice. Polls are silent: a list
// that is old says so itself.
(() => {
  const _ = window.gettext || ((text) => text);
  const BY_HAND = new Set(["click", "submit", "change", "keyup"]);

  function byHand(event) {
    const config = event.detail.requestConfig;
    return Boolean(config && config.triggeringEvent && BY_HAND.has(config.triggeringEvent.type));
  }

  function sentence(xhr) {
    const type = xhr.getResponseHeader("Content-Type") || "";
    const text = type.startsWith("text/plain") ? xhr.responseText.trim() : "";
    // Something between us and the console may answer with a page of its own.
    return text || _("The console could not do this.") + ` (${xhr.status})`;
  }

  function show(text) {
    const popup = document.querySelector("dialog[open] #dialog-body");
    const old = popup ? popup.querySelector("[data-problem]") : [...document.querySelectorAll("#notices [data-problem]")].find((each) => each.firstChild.textContent === text);
    if (old) old.remove();
    if (popup) {
      const line = document.createElement("p");
      line.className = "form-error";
      line.setAttribute("role", "alert");
      line.dataset.problem = "";
      line.textContent = text;
      const heading = popup.querySelector("#dialog-title");
      if (heading) heading.after(line);
      else popup.prepend(line);
      return;
    }
    const notices = document.getElementById("notices");
    if (!notices) return;
    const item = document.createElement("li");
    item.className = "notice error";
    item.setAttribute("role", "alert");
    item.dataset.notice = item.dataset.sticky = item.dataset.problem = "";
    const says = document.createElement("span");
    says.textContent = text;
    const close = document.createElement("button");
    close.type = "button";
    close.className = "close";
    close.dataset.closeNotice = "";
    close.setAttribute("aria-label", _("Dismiss"));
    close.textContent = "×";
    item.append(says, close);
    notices.append(item);
  }

  document.body.addEventListener("htmx:responseError", (event) => {
    if (byHand(event)) show(sentence(event.detail.xhr));
  });
  for (const name of ["htmx:sendError", "htmx:timeout"])
    document.body.addEventListener(name, (event) => {
      if (byHand(event)) show(_("The console does not answer. If you were changing something, look at the list first: it shows whether that was done."));
    });
})();
