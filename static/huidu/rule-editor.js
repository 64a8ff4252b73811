/* <huidu-rule-editor>: edits the rule (or, with `weights`, the list of weighted rules) in the text
 * area inside it. The text area is what the form sends, and stays usable as the JSON view.
 *
 * Words come from the server in the page's language, and so does every judgement: the editor asks
 * whether the rule is right, what it means in words, and whom it reaches. Only native controls, so
 * keyboard and screen readers work; focus goes to what was added, or stays near what was removed.
 */
(function () {
  "use strict";

  const { OPERATORS, LISTS, readRoot, writeRoot, paths, claim } = window.HuiduRules;
  const PAIRS = new Set(["between", "hysteresis"]);
  const ASK_AFTER_MS = 350;
  let shared = null; // the words, once a page
  let serial = 0;

  function loadWords(url) {
    shared = shared || fetch(url, { credentials: "same-origin" }).then((answer) => {
      if (!answer.ok) throw new Error(`words: ${answer.status}`);
      return answer.json();
    });
    return shared;
  }

  function make(tag, options = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(options)) {
      if (name === "class") node.className = value;
      else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value === true) node.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }

  const icon = (name) => make("span", { class: "material-symbols-outlined", "aria-hidden": "true" }, name);

  class RuleEditor extends HTMLElement {
    connectedCallback() {
      // While the page is still read, the text area inside is not there yet.
      if (document.readyState !== "loading") this.wake();
      else document.addEventListener("DOMContentLoaded", () => this.wake(), { once: true });
    }

    wake() {
      if (this.area || this.closest(".empty-form")) return;
      this.area = this.querySelector("textarea");
      if (!this.area || this.area.disabled) return;
      this.weighted = this.hasAttribute("weights");
      loadWords(this.dataset.check).then((words) => this.begin(words)).catch(() => {
        this.classList.add("hd-rule-plain"); // the text area still works
      });
    }

    begin(words) {
      this.words = words;
      this.texts = words.texts;
      this.types = Object.fromEntries(words.attributes.map((each) => [each.name, each.type]));
      this.byName = Object.fromEntries(words.attributes.map((each) => [each.name, each]));
      this.fault = null;
      this.asJson = false;
      this.board = make("div", { class: "hd-rule-board" });
      this.complaint = make("p", { class: "hd-rule-complaint", role: "alert", hidden: true });
      this.meaning = make("p", { class: "hd-rule-words", "aria-live": "polite" });
      this.reach = make("div", { class: "hd-rule-reach", "aria-live": "polite" });
      this.toggle = make("button", { type: "button", class: "hd-link", onclick: () => this.flip() });
      const tools = make("div", { class: "hd-rule-tools" }, this.toggle);
      if (this.hasAttribute("preview")) {
        tools.prepend(make("button", { type: "button", class: "hd-button hd-rule-count", onclick: () => this.count() },
          icon("groups"), this.dataset.stage ? this.texts.count_stage : this.texts.count));
      }
      this.append(this.board, this.complaint, this.meaning, this.reach, tools);
      this.area.addEventListener("input", () => this.ask());
      if (!this.readArea()) this.asJson = true;
      this.draw();
      this.ask();
    }

    // --- between text area and rows

    readArea() {
      let value;
      try {
        value = JSON.parse(this.area.value.trim() || (this.weighted ? "[]" : "{}"));
      } catch {
        return false;
      }
      if (this.weighted) {
        if (!Array.isArray(value)) return false;
        this.lines = value.map((each) => ({ weight: each.weight, root: readRoot(each.rule, this.types) }));
      } else {
        this.root = readRoot(value, this.types);
      }
      return true;
    }

    value() {
      if (!this.weighted) return writeRoot(this.root, this.types);
      return this.lines.map((line) => ({ rule: writeRoot(line.root, this.types), weight: line.weight }));
    }

    changed(redraw = true) {
      this.area.value = JSON.stringify(this.value(), null, 2);
      this.area.dispatchEvent(new Event("change", { bubbles: true }));
      if (redraw) this.draw();
      this.ask();
    }

    flip() {
      if (this.asJson && !this.readArea()) {
        this.complain({ path: "", message: this.texts.bad_json });
        return;
      }
      this.asJson = !this.asJson;
      this.draw();
      (this.asJson ? this.area : this.board.querySelector("select, button")).focus();
    }

    // --- drawing

    draw() {
      this.classList.toggle("hd-rule-json", this.asJson);
      this.classList.add("hd-rule-ready");
      this.toggle.textContent = this.asJson ? this.texts.visual : this.texts.json;
      this.board.replaceChildren();
      this.rows = new Map();
      if (this.asJson) return;
      if (!this.weighted) {
        this.places = paths(this.root);
        this.board.append(this.group(this.root, null));
      } else {
        this.places = new Map();
        if (!this.lines.length) this.board.append(make("p", { class: "hd-quiet" }, this.texts.no_weights));
        this.lines.forEach((line, index) => this.board.append(this.line(line, index)));
        this.board.append(this.button("add", this.texts.add_weight, () => {
          this.lines.push({ weight: 2, root: readRoot({}, this.types) });
          this.changed();
          this.focusLast(".hd-weight-number");
        }));
      }
      this.point();
    }

    line(line, index) {
      for (const [row, path] of paths(line.root)) this.places.set(row, path.replace("rule", `[${index}].rule`));
      const number = make("input", {
        type: "number", min: 1, max: 1000, step: 1, value: line.weight, class: "hd-input hd-weight-number",
        "aria-label": this.texts.weight,
        oninput: (event) => { line.weight = Number(event.target.value); this.changed(false); },
      });
      return make("div", { class: "hd-weight" },
        this.group(line.root, null),
        make("div", { class: "hd-weight-foot" }, make("span", {}, this.texts.draw_weight), number,
          make("span", {}, this.texts.weight),
          this.small("delete", this.texts.remove, () => { this.lines.splice(index, 1); this.changed(); })));
    }

    group(group, parent) {
      const choice = make("select", {
        class: "hd-select hd-rule-op", "aria-label": this.texts.group,
        onchange: (event) => { group.op = event.target.value; this.changed(false); },
      }, this.option("and", this.texts.all, group.op), this.option("or", this.texts.any, group.op));
      const head = make("div", { class: "hd-rule-head" }, this.negation(group), choice);
      if (parent) head.append(this.small("delete", this.texts.remove, () => this.removeItem(group, parent)));
      const items = make("div", { class: "hd-rule-items" }, ...group.items.map((each) => this.row(each, group)));
      if (!group.items.length && !parent) items.append(make("p", { class: "hd-quiet" }, this.texts.everybody));
      const add = make("div", { class: "hd-rule-add" },
        this.button("add", this.texts.add_claim, () => this.add(group, this.freshClaim())),
        this.button("add_box", this.texts.add_group,
          () => this.add(group, { kind: "group", op: "or", negated: false, items: [this.freshClaim()] })));
      if (this.words.cohorts.length) {
        add.append(this.button("group_add", this.texts.add_cohort,
          () => this.add(group, { kind: "cohort", key: this.words.cohorts[0].key, negated: false })));
      }
      const box = make("fieldset", { class: "hd-rule-group" }, head, items, add);
      this.rows.set(group, box);
      return box;
    }

    row(item, parent) {
      if (item.kind === "group") return this.group(item, parent);
      const row = make("div", { class: "hd-rule-row" });
      if (item.kind === "raw") {
        row.append(make("code", { class: "hd-rule-raw" }, JSON.stringify(item.rule)),
          make("span", { class: "hd-quiet" }, this.texts.expert));
      } else if (item.kind === "cohort") {
        row.append(this.negation(item), make("span", {}, this.texts.in_cohort), this.cohorts(item));
      } else {
        row.append(this.negation(item), this.attributeSelect(item), this.operators(item), this.operand(item));
      }
      row.append(this.small("delete", this.texts.remove, () => this.removeItem(item, parent)));
      this.rows.set(item, row);
      return row;
    }

    negation(item) {
      return make("label", { class: "hd-rule-not", title: this.texts.negate },
        make("input", {
          type: "checkbox", checked: item.negated, "aria-label": `${this.texts.not}: ${this.texts.negate}`,
          onchange: (event) => { item.negated = event.target.checked; this.changed(); },
        }), this.texts.not);
    }

    attributeSelect(item) {
      const known = this.byName[item.attribute];
      const options = this.words.attributes.map((each) => this.option(each.name, each.label, item.attribute));
      if (!known) options.unshift(this.option(item.attribute, item.attribute, item.attribute));
      return make("select", {
        class: "hd-select hd-rule-attribute", "aria-label": this.texts.attribute,
        onchange: (event) => {
          Object.assign(item, this.freshClaim(event.target.value), { negated: item.negated });
          this.changed();
          this.rows.get(item).querySelector(".hd-rule-operator").focus();
        },
      }, ...options);
    }

    operators(item) {
      const type = this.types[item.attribute];
      return make("select", {
        class: "hd-select hd-rule-operator", "aria-label": this.texts.operator,
        onchange: (event) => {
          const before = LISTS.has(item.operator);
          item.operator = event.target.value;
          if (before !== LISTS.has(item.operator) || PAIRS.has(item.operator)) {
            item.value = this.startValue(type, item.operator);
          }
          this.changed();
          this.rows.get(item).querySelector(".hd-rule-operator").focus();
        },
      }, ...(OPERATORS[type] || [item.operator]).filter((each) => this.offers(item, each)).map((each) =>
        this.option(each, this.texts[`op_${each}`] || each, item.operator)));
    }

    /* Hysteresis needs the figures of past days, which are known of one attribute. */
    offers(item, operator) {
      return operator !== "hysteresis" || operator === item.operator || (this.byName[item.attribute] || {}).hysteresis;
    }

    operand(item) {
      const type = this.types[item.attribute];
      const unit = (this.byName[item.attribute] || {}).unit;
      const hold = make("span", { class: "hd-rule-value" });
      if (type === "boolean") {
        hold.append(make("select", {
          class: "hd-select", "aria-label": this.texts.value,
          onchange: (event) => { item.value = event.target.value === "true"; this.changed(false); },
        }, this.option("true", this.texts.yes, String(item.value)), this.option("false", this.texts.no, String(item.value))));
      } else if (type === "region" && LISTS.has(item.operator)) {
        hold.append(this.regions(item));
      } else if (item.operator === "between") {
        hold.append(this.input(item.value[0], type, this.texts.low, (value) => { item.value[0] = value; }), "–",
          this.input(item.value[1], type, this.texts.high, (value) => { item.value[1] = value; }));
      } else if (item.operator === "hysteresis") {
        hold.append(make("span", {}, this.texts.enter),
          this.input(item.value[0], type, this.texts.enter, (value) => { item.value[0] = value; }),
          make("span", {}, this.texts.leave),
          this.input(item.value[1], type, this.texts.leave, (value) => { item.value[1] = value; }));
      } else if (item.operator === "in") {
        const text = (item.value || []).join(", ");
        hold.append(this.input(text, "string", this.texts.values_hint, (value) => {
          item.value = String(value).split(/[,，;；]/).map((each) => each.trim()).filter(Boolean)
            .map((each) => this.typed(each, type));
        }));
      } else if (type === "region") {
        hold.append(this.input(item.value, "region", this.texts.region_hint, (value) => { item.value = value; }));
      } else {
        hold.append(this.input(item.value, type, this.texts.value, (value) => { item.value = value; }));
      }
      if (unit) hold.append(make("span", { class: "hd-quiet" }, unit));
      return hold;
    }

    input(value, type, label, store) {
      const numeric = type === "integer" || type === "number";
      const shown = value === null || value === undefined ? "" : value;
      const options = {
        type: type === "date" ? "date" : numeric ? "number" : "text",
        step: type === "integer" ? 1 : "any", value: shown, class: "hd-input", "aria-label": label,
        placeholder: numeric || type === "date" ? null : label,
        oninput: (event) => { store(this.typed(event.target.value, type)); this.changed(false); },
      };
      if (type === "region") options.list = this.regionList();
      return make("input", options);
    }

    typed(text, type) {
      if (type === "region") {
        const code = /\d{6}/.exec(text);
        return code ? code[0] : text;
      }
      if (type !== "integer" && type !== "number") return text;
      if (String(text).trim() === "") return null; // the server says what is missing
      const number = Number(text);
      return Number.isFinite(number) ? number : text;
    }

    regions(item) {
      const names = Object.fromEntries(this.words.regions);
      const chips = (item.value || []).map((code, index) => make("span", { class: "hd-chip" },
        `${names[code] || ""} ${code}`.trim(),
        this.small("close", `${this.texts.remove} ${names[code] || code}`, () => {
          item.value.splice(index, 1);
          this.changed();
          this.rows.get(item).querySelector("input[list]").focus();
        })));
      const take = (event) => {
        const code = this.typed(event.target.value, "region");
        const named = this.words.regions.find(([, name]) => name === event.target.value.trim());
        const found = names[code] ? code : named ? named[0] : /^\d{6}$/.test(code) ? code : "";
        if (!found || item.value.includes(found)) return;
        item.value.push(found);
        this.changed();
        this.rows.get(item).querySelector("input[list]").focus();
      };
      const field = make("input", {
        type: "text", class: "hd-input", list: this.regionList(), placeholder: this.texts.region_hint,
        "aria-label": this.texts.region_hint, onchange: take,
        onkeydown: (event) => { if (event.key === "Enter") { event.preventDefault(); take(event); } },
      });
      return make("span", { class: "hd-chips" }, ...chips, field);
    }

    regionList() {
      if (!document.getElementById("hd-regions")) {
        document.body.append(make("datalist", { id: "hd-regions" },
          ...this.words.regions.map(([code, name]) => make("option", { value: `${code} ${name}` }))));
      }
      return "hd-regions";
    }

    cohorts(item) {
      const options = this.words.cohorts.map((each) => this.option(each.key, each.label, item.key));
      if (!this.words.cohorts.some((each) => each.key === item.key)) {
        options.unshift(this.option(item.key, item.key, item.key));
      }
      return make("select", {
        class: "hd-select", "aria-label": this.texts.cohort,
        onchange: (event) => { item.key = event.target.value; this.changed(false); },
      }, ...options);
    }

    option(value, label, current) {
      return make("option", { value, selected: value === current }, label);
    }

    button(name, label, act) {
      return make("button", { type: "button", class: "hd-link", onclick: act }, icon(name), label);
    }

    small(name, label, act) {
      return make("button", { type: "button", class: "hd-icon-button", title: label, "aria-label": label, onclick: act }, icon(name));
    }

    // --- changes

    freshClaim(name) {
      const attribute = name || (this.byName.weekly_payments ? "weekly_payments" : this.words.attributes[0].name);
      const type = this.types[attribute];
      const operator = OPERATORS[type][0];
      return claim(attribute, operator, this.startValue(type, operator));
    }

    startValue(type, operator) {
      if (operator === "hysteresis") return [20, 15];
      if (operator === "between") return type === "date" ? ["", ""] : [0, 10];
      if (LISTS.has(operator)) return [];
      if (type === "boolean") return true;
      return type === "integer" || type === "number" ? 0 : "";
    }

    add(group, item) {
      group.items.push(item);
      this.changed();
      const control = this.rows.get(item).querySelector("select, input:not([type=checkbox])");
      if (control) control.focus();
    }

    removeItem(item, parent) {
      parent.items.splice(parent.items.indexOf(item), 1);
      this.changed();
      const near = this.rows.get(parent);
      if (near) near.querySelector(".hd-rule-add button").focus();
    }

    focusLast(selector) {
      const all = this.board.querySelectorAll(selector);
      if (all.length) all[all.length - 1].focus();
    }

    // --- the server's judgement

    ask() {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.check(false), ASK_AFTER_MS);
    }

    count(everybody = false) {
      clearTimeout(this.timer);
      this.reach.textContent = this.texts.counting;
      return this.check(true, everybody);
    }

    async check(count, everybody = false) {
      const mine = ++serial;
      this.latest = mine;
      let rules;
      try {
        const value = JSON.parse(this.area.value.trim() || (this.weighted ? "[]" : "{}"));
        rules = this.weighted ? value.map((each) => each.rule) : [value];
      } catch {
        this.complain({ path: "", message: this.texts.bad_json });
        return;
      }
      try {
        const { cohort, flag, gate, stage } = this.dataset;
        const questions = rules.map((rule) => ({ rule, count: count && !stage, cohort, flag, gate, everybody }));
        if (count && stage) questions.push({ rule: {}, count, stage: { ...this.stage(), everybody } });
        const answers = await Promise.all(questions.map((each) => this.post(each)));
        if (this.latest !== mine) return; // a newer question is on its way
        const wrong = answers.findIndex((each) => !each.ok);
        if (!count) this.reach.textContent = "";
        if (wrong >= 0) {
          const place = answers[wrong].path.replace(/^rule/, this.weighted ? `[${wrong}].rule` : "rule");
          this.reach.textContent = "";
          this.complain({ path: place, message: answers[wrong].message });
          this.meaning.textContent = "";
          return;
        }
        this.complain(null);
        this.tell(answers, count);
      } catch {
        if (this.latest !== mine) return;
        this.reach.textContent = "";
        this.complain({ path: "", message: this.texts.failed });
      }
    }

    /* The stage as it stands in the form. */
    stage() {
      const typed = (name) => {
        const field = this.closest("form").elements[name];
        return field && field.value ? field.value : "";
      };
      return { stage: this.dataset.stage, rollout: typed("rollout"), audience: typed("audience"), share: typed("share_ppm"),
        weights: this.weighted ? JSON.parse(this.area.value.trim() || "[]") : [] };
    }

    async post(question) {
      const token = document.querySelector("input[name=csrfmiddlewaretoken]");
      const answer = await fetch(this.dataset.check, {
        method: "POST", credentials: "same-origin", body: JSON.stringify(question),
        headers: { "Content-Type": "application/json", "X-CSRFToken": token ? token.value : "" },
      });
      if (!answer.ok && answer.status !== 400) throw new Error(String(answer.status));
      return answer.json();
    }

    tell(answers, count) {
      const rules = answers.slice(0, this.weighted && this.lines ? this.lines.length : answers.length);
      const said = this.weighted
        ? rules.map((each, index) => `${each.words} × ${this.lines && this.lines[index] ? this.lines[index].weight : ""}`).join("；")
        : answers[0].words;
      this.meaning.replaceChildren();
      if (said) this.meaning.append(make("strong", {}, `${this.texts.meaning}: `), said);
      const counted = count && answers.find((each) => each.reach);
      if (counted) this.picture(counted.reach);
    }

    /* How many, who they are by bars, and some of them to look at. */
    picture(reach) {
      const estimated = reach.groups.some((each) => each.lines.some((line) => line.text.startsWith("≈")));
      this.reach.replaceChildren(
        make("p", { class: "hd-reach-total", "data-matched": reach.matched }, reach.text),
        ...[...reach.notes, reach.as_of].filter(Boolean).map((text) => make("p", { class: "hd-quiet" }, text)),
        make("div", { class: `hd-reach-groups${estimated ? " hd-reach-estimated" : ""}` }, ...reach.groups.map((each) => this.bars(each))),
        reach.sample.length ? this.sample(reach) : "");
      if (reach.exact === false) {
        this.reach.querySelector(".hd-reach-groups").before(make("button", { type: "button", class: "hd-button hd-rule-exact",
          onclick: () => this.count(true) }, this.texts.everybody_exactly));
      }
    }

    bars(group) {
      const most = Math.max(1, ...group.lines.filter((line) => !line.rest).map((line) => line.users));
      return make("section", { class: "hd-reach-group" }, make("h4", {}, group.title), ...group.lines.map((line) => {
        const bar = make("span", { class: line.rest ? "" : "hd-bar" });
        bar.style.setProperty("--share", `${(100 * line.users) / most}%`);
        return make("div", {}, make("span", {}, line.name), bar,
          make("span", { class: "hd-number" }, line.text), make("span", { class: "hd-number hd-quiet" }, line.share));
      }));
    }

    sample(reach) {
      const heads = [this.texts.sample_user, this.texts.sample_region, this.texts.sample_weekly];
      return make("section", { class: "hd-reach-sample" }, make("h4", {}, reach.sample_title),
        make("table", { class: "hd-table" },
          make("thead", {}, make("tr", {}, ...heads.map((each) => make("th", { scope: "col" }, each)))),
          make("tbody", {}, ...reach.sample.map((each) => make("tr", {},
            make("td", {}, make("a", { href: each.url, target: "_blank", rel: "noopener" }, each.user)),
            make("td", {}, each.region), make("td", { class: "hd-number" }, each.weekly))))));
    }

    complain(fault) {
      this.fault = fault && fault.message ? fault : null;
      this.complaint.hidden = !this.fault;
      this.complaint.textContent = this.fault ? this.fault.message : "";
      this.point();
    }

    /* Put the complaint at the row it is about: the longest path that begins the fault's path. */
    point() {
      this.querySelectorAll(".hd-rule-wrong").forEach((node) => node.classList.remove("hd-rule-wrong"));
      if (!this.fault || !this.rows) return;
      let best = null;
      for (const [row, path] of this.places || []) {
        const fits = this.fault.path === path || this.fault.path.startsWith(`${path}.`) || this.fault.path.startsWith(`${path}[`);
        if (fits && (!best || path.length >= this.places.get(best).length)) best = row;
      }
      const node = best && this.rows.get(best);
      if (!node) return;
      node.classList.add("hd-rule-wrong");
      node.insertAdjacentElement("afterend", this.complaint);
    }
  }

  customElements.define("huidu-rule-editor", RuleEditor);
})();
