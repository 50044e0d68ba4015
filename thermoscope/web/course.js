// A sparkline: one number a step, along the whole answer.

const SVG = "http://www.w3.org/2000/svg";

/** Draws the values from zero to their maximum, marks one of them, and returns the maximum. */
export function drawCourse(svg, values, marked) {
  const width = svg.clientWidth || 1;
  const height = svg.clientHeight || 1;
  const top = Math.max(...values);
  const x = (index) => (values.length > 1 ? 3 + (index / (values.length - 1)) * (width - 6) : width / 2);
  const y = (value) => height - 3 - (top > 0 ? value / top : 0) * (height - 6);
  const points = values.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  const foot = height - 3;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(
    shape("polygon", { class: "area", points: `${x(0)},${foot} ${points} ${x(values.length - 1)},${foot}` }),
    shape("polyline", { class: "line", points }),
    shape("line", { class: "mark", x1: x(marked), x2: x(marked), y1: 0, y2: height }),
    shape("circle", { class: "mark", cx: x(marked), cy: y(values[marked]), r: 3 }),
  );
  return top;
}

function shape(kind, attributes) {
  const element = document.createElementNS(SVG, kind);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
