// Says beside the Submit button of a run's form which fields are not valid, and what is: Prefect's pages say it beside
// each field alone, which may be far out of sight. Where the pages are others than these, it does nothing.
(() => {
  "use strict";
  const FORM = "form.flow-run-create-form-v2";
  const FOOTER = ":scope > .p-form__footer";
  const FIELD = ".p-label";
  const MESSAGE = ".p-label__message--failed";
  const OWN_MESSAGE = `:scope > ${MESSAGE}`;
  const NAME = ":scope > .p-label__header .schema-form-property__label, :scope > .p-label__header .p-label__label";
  const ABOUT = ":scope > .p-label__header .schema-form-property__description";
  const TOP = "parameters"; // the argument of our flows that holds all fields
  const SAYS_NOTHING = /^(.*) is not valid under any of the given schemas$/s;
  const NAMED = 3;
  const MARK = "clipsmith-form-errors";

  const text = (place) => (place ? place.textContent.trim().replace(/\s+/g, " ") : "");
  const nameOf = (field) => text(field.querySelector(NAME)).replace(/ \(Optional\)$/, "");

  /** "Data: calibration, Samples". */
  function pathOf(field) {
    const names = [];
    for (let one = field; one; one = one.parentElement.closest(FIELD)) names.unshift(nameOf(one));
    return names.filter((name) => name && name !== TOP).join(", ");
  }

  /** Prefect's words; where they do not tell what is valid, the last sentence of the field's description does. */
  function whyNot(field) {
    const said = text(field.querySelector(OWN_MESSAGE));
    const value = said.match(SAYS_NOTHING);
    if (!value) return said;
    const sentences = text(field.querySelector(ABOUT)).replace(/\.$/, "").split(/\. /);
    const valid = sentences[sentences.length - 1];
    return `${value[1]} is not valid${valid ? `; ${valid[0].toLowerCase()}${valid.slice(1)}` : ""}`;
  }

  /** The fields that say that they are not valid, without those around another one. */
  function invalidIn(form) {
    const fields = [...form.querySelectorAll(MESSAGE)].map((message) => message.closest(FIELD)).filter(Boolean);
    return fields.filter((field) => field.querySelectorAll(MESSAGE).length === 1);
  }

  function lineIn(footer) {
    const line = document.createElement("div");
    line.className = MARK;
    line.setAttribute("role", "status");
    line.style.cssText = "flex: 1 1 0; min-width: 0; align-self: center; overflow-wrap: anywhere; font-size: 0.875rem;";
    line.style.color = "var(--p-color-text-invalid)";
    footer.prepend(line);
    return line;
  }

  /** A name that brings its field into view. */
  function link(field) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = pathOf(field);
    button.style.cssText = "text-decoration: underline; text-align: left;";
    button.addEventListener("click", () => {
      field.scrollIntoView({ block: "center" });
      const control = field.querySelector("input, textarea, select");
      if (control) control.focus({ preventScroll: true });
    });
    return button;
  }

  function show(form) {
    const footer = form.querySelector(FOOTER);
    if (!footer) return;
    const fields = invalidIn(form);
    const before = footer.querySelector(`:scope > .${MARK}`);
    const told = fields.map((field) => `${pathOf(field)}: ${whyNot(field)}`).join("\n");
    if (before && before.dataset.told === told) return;
    if (!fields.length) {
      if (before) before.remove();
      return;
    }
    const line = before || lineIn(footer);
    const parts = [fields.length === 1 ? "1 field is not valid: " : `${fields.length} fields are not valid: `];
    fields.slice(0, NAMED).forEach((field, position) => {
      parts.push(position ? "; " : "", link(field), ` (${whyNot(field)})`);
    });
    if (fields.length > NAMED) parts.push(`; and ${fields.length - NAMED} more`);
    line.replaceChildren(...parts);
    line.dataset.told = told;
    if (footer.getBoundingClientRect().top < innerHeight) footer.scrollIntoView({ block: "nearest" });
  }

  let due = false;
  function look() {
    due = false;
    try {
      document.querySelectorAll(FORM).forEach(show);
    } catch (error) {
      console.debug("clipsmith: the form is not as expected", error);
    }
  }

  const observer = new MutationObserver(() => {
    if (due) return;
    due = true;
    requestAnimationFrame(look);
  });
  observer.observe(document.documentElement, { childList: true, subtree: true, characterData: true });
})();
