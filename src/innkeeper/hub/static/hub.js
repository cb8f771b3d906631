// What the pages do beyond htmx. No inline script anywhere: the content security policy forbids it.
(() => {
  "use strict";

  // The end of an operation that leads to its workspace: go there, once the last step has been seen.
  document.addEventListener("landed", (event) => {
    const target = event.detail && event.detail.data;
    if (target) window.location.assign(target);
  });

  // A slug suggested from the organisation's name, until somebody types one.
  const slug = document.querySelector("[data-slug-from]");
  if (slug) {
    const source = document.getElementById(slug.dataset.slugFrom);
    let own = slug.value !== "";
    slug.addEventListener("input", () => { own = slug.value !== ""; });
    source.addEventListener("input", () => {
      if (own) return;
      slug.value = source.value.normalize("NFKD").toLowerCase()
        .replace(/[^a-z0-9]+/g, "-").replace(/^[^a-z]+|-+$/g, "").slice(0, 40).replace(/-+$/, "");
      slug.dispatchEvent(new Event("suggested", { bubbles: true }));
    });
  }

  // A form is sent once.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || form.hasAttribute("hx-post")) return;
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "yes";
    if (event.submitter) event.submitter.setAttribute("aria-busy", "true");
  });
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) {
      delete form.dataset.sent;
      for (const button of form.querySelectorAll("[aria-busy]")) button.removeAttribute("aria-busy");
    }
  });
})();
