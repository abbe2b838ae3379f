"use strict";
(() => {
  const place = (id) => document.getElementById(id);
  // Everything of the document is set as text: nothing in it can become markup.
  const make = (name, text, ...children) => {
    const node = document.createElement(name);
    if (text !== undefined && text !== null) node.textContent = String(text);
    children.forEach((child) => child && node.appendChild(child));
    return node;
  };
  const codes = (text) => {
    const line = make("p");
    String(text).split("`").forEach((part, index) => line.appendChild(index % 2 ? make("code", part) : document.createTextNode(part)));
    return line;
  };
  const table = (heads, rows) => {
    const head = make("tr");
    heads.forEach((text) => head.appendChild(make("th", text)));
    const body = make("tbody");
    rows.forEach((cells) => {
      const row = make("tr");
      cells.forEach((cell) => row.appendChild(cell && cell.nodeType ? make("td", null, cell) : make("td", cell)));
      body.appendChild(row);
    });
    return make("table", null, make("thead", null, head), body);
  };
  const folded = (title, value) => make("details", null, make("summary", title), make("pre", JSON.stringify(value, null, 2)));

  const name = (reference) => reference.split("/").pop();
  const type = (schema) => {
    if (schema === true || !schema || !Object.keys(schema).length) return "qualquer valor";
    if (schema.$ref) return name(schema.$ref);
    if (schema.const !== undefined) return JSON.stringify(schema.const);
    if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
    const several = schema.oneOf || schema.anyOf;
    if (several) return several.map(type).join(" ou ");
    if (schema.allOf) return schema.allOf.map(type).filter((text) => text !== "objeto").join(" e ");
    if (schema.items) return "lista de " + type(schema.items);
    const words = { string: "texto", integer: "inteiro", number: "número", boolean: "sim ou não", object: "objeto", array: "lista", null: "nulo" };
    const own = [].concat(schema.type || "object").map((word) => words[word] || word).join(" ou ");
    return schema.format ? own + " (" + schema.format + ")" : own;
  };
  // The schemas that a value leads to, each once, so that a fold shows all that is needed.
  const reached = (value, all, found) => {
    if (Array.isArray(value)) value.forEach((item) => reached(item, all, found));
    else if (value && typeof value === "object") {
      if (typeof value.$ref === "string" && !(name(value.$ref) in found)) {
        found[name(value.$ref)] = all[name(value.$ref)];
        reached(found[name(value.$ref)], all, found);
      }
      Object.values(value).forEach((item) => reached(item, all, found));
    }
    return found;
  };
  const content = (said, all) => Object.entries(said || {}).map(([media, part]) => {
    const box = make("div", null, make("p", null, make("code", media), make("span", " · " + type(part.schema))));
    Object.entries(part.examples || {}).forEach(([title, example]) => box.appendChild(folded("Exemplo: " + title, example.value)));
    const schemas = reached(part.schema, all, {});
    box.appendChild(folded("Esquema", Object.keys(schemas).length ? Object.assign({ esquema: part.schema }, schemas) : part.schema));
    return box;
  });

  const operation = (path, method, said, all, schemes) => {
    const section = make("section");
    section.id = said.operationId;
    section.appendChild(make("h3", null, Object.assign(make("span", method), { className: "method" }), make("code", path), make("span", said.summary)));
    if (said.description) section.appendChild(codes(said.description));
    if (said.security) {
      const ways = said.security.map((way) => Object.keys(way).map((key) => (schemes[key].name ? schemes[key].name + ": …" : "Authorization: Bearer …")).join(" + "));
      section.appendChild(make("p", "Autenticação, uma destas: " + ways.join("; ")));
    } else section.appendChild(make("p", "Sem autenticação."));
    if (said.parameters) {
      section.appendChild(make("h4", "Parâmetros"));
      section.appendChild(table(["Nome", "Onde", "Tipo", ""], said.parameters.map((parameter) => [
        make("code", parameter.name + (parameter.required ? " *" : "")),
        { path: "endereço", query: "consulta", header: "cabeçalho" }[parameter.in] || parameter.in,
        type(parameter.schema), codes(parameter.description || ""),
      ])));
    }
    if (said.requestBody) {
      section.appendChild(make("h4", "Corpo"));
      content(said.requestBody.content, all).forEach((box) => section.appendChild(box));
    }
    section.appendChild(make("h4", "Respostas"));
    section.appendChild(table(["Status", "", "Conteúdo"], Object.entries(said.responses).map(([status, answer]) => {
      const box = make("div");
      content(answer.content, all).forEach((part) => box.appendChild(part));
      const headers = Object.entries(answer.headers || {}).map(([header, about]) => codes("`" + header + "`: " + about.description));
      return [make("code", status), make("div", null, codes(answer.description), ...headers), box];
    })));
    return section;
  };

  const show = (described) => {
    const all = described.components.schemas;
    place("title").textContent = described.info.title + " · " + described.info.version;
    place("about").replaceWith(codes(described.info.description));
    const main = place("operations");
    const index = place("index");
    main.textContent = "";
    const groups = {};
    Object.entries(described.paths).forEach(([path, item]) => Object.entries(item).forEach(([method, said]) => {
      const group = said.tags[0];
      (groups[group] = groups[group] || []).push([path, method, said]);
    }));
    const entries = [];
    Object.entries(groups).forEach(([group, operations]) => {
      main.appendChild(make("h2", group));
      index.appendChild(make("h2", group));
      const list = index.appendChild(make("ul"));
      operations.forEach(([path, method, said]) => {
        const section = main.appendChild(operation(path, method, said, all, described.components.securitySchemes));
        const link = Object.assign(make("a", method.toUpperCase() + " " + path), { href: "#" + said.operationId });
        const item = list.appendChild(make("li", null, link));
        entries.push([(path + " " + said.summary + " " + group).toLowerCase(), section, item]);
      });
    });
    place("search").addEventListener("input", (event) => {
      const wanted = event.target.value.trim().toLowerCase();
      entries.forEach(([text, ...nodes]) => nodes.forEach((node) => { node.hidden = !text.includes(wanted); }));
    });
  };

  fetch(document.body.dataset.document)
    .then((answer) => answer.ok ? answer.json() : Promise.reject(new Error(String(answer.status))))
    .then(show)
    .catch((error) => { place("operations").textContent = "Não foi possível ler o documento: " + error.message; });
})();
