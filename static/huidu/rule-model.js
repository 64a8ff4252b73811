/* Rules as rows: the JsonLogic subset of huidu.engine.rules to a tree people can edit, and back.
 *
 *   {kind: "group", op: "and"|"or", negated, items}
 *   {kind: "claim", attribute, operator, value, negated}     value is a list for between, hysteresis, in, within
 *   {kind: "cohort", key, negated}
 *   {kind: "raw", rule}                                      what rows cannot say; kept as it is
 *
 * Nothing is ever lost: what cannot be read becomes "raw". Pure functions, no DOM.
 */
(function () {
  "use strict";

  const ORDERED = ["==", "!=", ">", ">=", "<", "<=", "between", "in"];
  const OPERATORS = {
    integer: [">", ">=", "<", "<=", "==", "!=", "between", "in", "hysteresis"],
    number: [">", ">=", "<", "<=", "==", "!=", "between", "in"],
    date: [">=", ">", "<=", "<", "==", "!=", "between"],
    string: ["==", "!=", "in", "starts_with", "contains"],
    strings: ["contains"],
    boolean: ["=="],
    region: ["within", "==", "!=", "in"],
    sem_ver: [">=", ">", "<=", "<", "==", "!=", "^", "~"],
  };
  const FLIPPED = { "<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!=" };
  const LISTS = new Set(["between", "hysteresis", "in", "within"]);

  const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

  function variable(operand) {
    if (!isObject(operand) || Object.keys(operand).join() !== "var") return "";
    const name = Array.isArray(operand.var) && operand.var.length === 1 ? operand.var[0] : operand.var;
    return typeof name === "string" ? name : "";
  }

  function claim(attribute, operator, value) {
    return { kind: "claim", attribute, operator, value, negated: false };
  }

  function read(rule, types) {
    return readClaim(rule, types) || { kind: "raw", rule };
  }

  function readClaim(rule, types) {
    if (!isObject(rule)) return null;
    const keys = Object.keys(rule);
    if (keys.length !== 1) return null;
    const operator = keys[0];
    const operands = rule[operator];
    if (operator === "and" || operator === "or") {
      if (!Array.isArray(operands) || !operands.length) return null;
      return { kind: "group", op: operator, negated: false, items: operands.map((each) => read(each, types)) };
    }
    if (operator === "!") {
      const inner = read(Array.isArray(operands) && operands.length === 1 ? operands[0] : operands, types);
      if (inner.kind === "raw" || inner.negated) return null;
      return { ...inner, negated: true };
    }
    if (operator === "cohort") {
      const key = Array.isArray(operands) ? operands[0] : operands;
      return typeof key === "string" ? { kind: "cohort", key, negated: false } : null;
    }
    if (operator === "var") {
      const name = variable(rule);
      return name && types[name] === "boolean" ? claim(name, "==", true) : null;
    }
    if (!Array.isArray(operands)) return null;
    return readComparison(operator, operands, types);
  }

  function readComparison(operator, operands, types) {
    if (operator === "<=" && operands.length === 3 && variable(operands[1])) {
      return known(claim(variable(operands[1]), "between", [operands[0], operands[2]]), types);
    }
    if (operands.length === 2 && !variable(operands[0]) && variable(operands[1])) {
      if (operator === "in") return known(claim(variable(operands[1]), "contains", operands[0]), types);
      if (!FLIPPED[operator]) return null;
      operands = [operands[1], operands[0]];
      operator = FLIPPED[operator];
    }
    const name = variable(operands[0]);
    if (!name) return null;
    if (operator === "sem_ver" && operands.length === 3) {
      const sign = operands[1] === "=" ? "==" : operands[1];
      return known(claim(name, sign, operands[2]), types);
    }
    if ((operator === "between" || operator === "hysteresis") && operands.length === 3) {
      return known(claim(name, operator, operands.slice(1)), types);
    }
    if (operands.length !== 2) return null;
    let value = operands[1];
    if (operator === "within" && !Array.isArray(value)) value = [value];
    if (LISTS.has(operator) !== Array.isArray(value)) return null;
    if (types[name] === "boolean" && operator === "!=" && typeof value === "boolean") {
      return known(claim(name, "==", !value), types);
    }
    return known(claim(name, operator, value), types);
  }

  function known(row, types) {
    const allowed = OPERATORS[types[row.attribute]];
    return allowed && allowed.includes(row.operator) ? row : null;
  }

  function write(row, types) {
    const plain = writePlain(row, types);
    return row.negated && row.kind !== "raw" ? { "!": plain } : plain;
  }

  function writePlain(row, types) {
    if (row.kind === "raw") return row.rule;
    if (row.kind === "cohort") return { cohort: row.key };
    if (row.kind === "group") return { [row.op]: row.items.map((each) => write(each, types)) };
    const subject = { var: row.attribute };
    if (types[row.attribute] === "sem_ver") return { sem_ver: [subject, row.operator, row.value] };
    if (row.operator === "between" || row.operator === "hysteresis") {
      return { [row.operator]: [subject, ...row.value] };
    }
    if (row.operator === "contains") return { in: [row.value, subject] };
    return { [row.operator]: [subject, row.value] };
  }

  /* The outermost group is always shown; {} is an empty one, a single condition a group of one. */
  function readRoot(rule, types) {
    if (isObject(rule) && !Object.keys(rule).length) {
      return { kind: "group", op: "and", negated: false, items: [] };
    }
    const row = read(rule, types);
    if (row.kind === "group") return row;
    return { kind: "group", op: "and", negated: false, items: [row] };
  }

  function writeRoot(root, types) {
    if (!root.items.length) return {};
    if (root.items.length === 1 && !root.negated) return write(root.items[0], types);
    return write(root, types);
  }

  /* The server's path of each row, in the same order as the rule that writeRoot makes. */
  function paths(root) {
    const found = new Map();
    const walk = (row, path) => {
      found.set(row, path);
      if (row.kind === "group") row.items.forEach((each, index) => walk(each, `${path}[${index}]`));
    };
    if (root.items.length === 1 && !root.negated) {
      found.set(root, "rule");
      walk(root.items[0], "rule");
    } else {
      walk(root, "rule");
    }
    return found;
  }

  window.HuiduRules = { OPERATORS, LISTS, ORDERED, readRoot, writeRoot, paths, claim };
})();
