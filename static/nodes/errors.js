// What htmx asked for and did not get: one sentence, in the popup when one is open, else as a notice. Polls are silent: a list
// that is old says so itself (console.js).
"use strict";
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
