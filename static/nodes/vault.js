// The Vault screen.
"use strict";

// The lag chart keeps itself up to date: every 10 s, not on hidden tabs. Without this file it is a link to a page of its own.
setInterval(() => {
  const chart = document.getElementById("lag");
  if (chart && window.htmx && !document.hidden) htmx.trigger(chart, "lag");
}, 10000);

// + Add Node: ask the host by itself once the fields say which one. Save and Check work without this file too.
(() => {
  const PORT_MAX = 65535;
  let typed = 0; // what the list tells is about the state with this number
  let asked = 0;
  const form = () => document.querySelector("form.add-node");

  function saysWhich(fields) {
    const port = fields.port.value.trim();
    const address = fields.ip_address.value.trim();
    return fields.hostname.value.trim() !== ""
      && /^\d{1,5}$/.test(port) && Number(port) >= 1 && Number(port) <= PORT_MAX
      && (/^\d{1,3}(\.\d{1,3}){3}$/.test(address) || /^[0-9a-f:.]*:[0-9a-f:.]*$/i.test(address));
  }
  // What an earlier Save refused is about what stood there then.
  function forget(inside) {
    for (const old of inside.querySelectorAll(".form-error, .field-error")) old.remove();
    for (const field of inside.querySelectorAll(".wrong")) field.classList.remove("wrong");
    for (const input of inside.querySelectorAll("[aria-invalid]")) {
      input.removeAttribute("aria-invalid");
      input.removeAttribute("aria-describedby");
    }
  }
  document.addEventListener("input", (event) => {
    const inside = event.target.closest("form.add-node");
    if (!inside || event.target.name === "active") return;
    typed += 1;
    forget(inside);
    const list = document.getElementById("checks");
    list.classList.add("outdated");
    if (saysWhich(inside.elements)) htmx.trigger(list, "filled"); // waits for a pause in the typing, then asks
  });
  document.body.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.target && event.detail.target.id === "checks") asked = typed;
  });
  document.body.addEventListener("htmx:afterSwap", (event) => {
    if (form() && event.detail.target.id === "checks" && asked === typed) event.detail.target.classList.remove("outdated");
  });
})();
