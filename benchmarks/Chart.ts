/**
 * Charts as SVG, readable on light and on dark: bars for contenders, on a logarithmic scale since they differ by powers
 * of ten, and curves for growth, logarithmic both ways.
 */

/** A chart of bars: more is better. */
export interface Bars {
  readonly title: string
  readonly unit: string
  readonly bars: ReadonlyArray<{ readonly name: string; readonly value: number; readonly ours: boolean }>
}

/** A line through points, in the order of `x`. */
export interface Line {
  readonly name: string
  readonly points: ReadonlyArray<readonly [x: number, y: number]>
}

/** A chart of curves: less is better unless its title says otherwise. */
export interface Curves {
  readonly title: string
  readonly x: string
  readonly y: string
  readonly lines: ReadonlyArray<Line>
  /** A point to point at, and why. */
  readonly bend?: { readonly x: number; readonly text: string } | undefined
}

const width = 760
const styles = `<style>
    text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #24292f }
    .back { fill: #ffffff }
    .title { font-weight: 600; font-size: 15px }
    .muted { fill: #57606a; font-size: 12px }
    .grid { stroke: #d0d7de; stroke-width: 1 }
    .ours { fill: #0969da } .other { fill: #afb8c1 }
    .line { fill: none; stroke-width: 2 }
    .s0 { stroke: #0969da } .s1 { stroke: #bc4c00 } .s2 { stroke: #1a7f37 } .s3 { stroke: #8250df }
    .d0 { fill: #0969da } .d1 { fill: #bc4c00 } .d2 { fill: #1a7f37 } .d3 { fill: #8250df }
    .bend { stroke: #57606a; stroke-dasharray: 4 4 }
    @media (prefers-color-scheme: dark) {
      .back { fill: #0d1117 }
      text { fill: #e6edf3 } .muted { fill: #9198a1 } .grid { stroke: #3d444d }
      .ours { fill: #4493f8 } .other { fill: #656c76 }
      .s0 { stroke: #4493f8 } .s1 { stroke: #f0883e } .s2 { stroke: #3fb950 } .s3 { stroke: #ab7df8 }
      .d0 { fill: #4493f8 } .d1 { fill: #f0883e } .d2 { fill: #3fb950 } .d3 { fill: #ab7df8 }
      .bend { stroke: #9198a1 }
    }
  </style>`

const escape = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")

const text = (x: number, y: number, content: string, attributes = ""): string =>
  `<text x="${round(x)}" y="${round(y)}"${attributes === "" ? "" : ` ${attributes}`}>${escape(content)}</text>`

const round = (value: number): number => Math.round(value * 10) / 10

const document = (height: number, title: string, parts: ReadonlyArray<string>): string =>
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">
  <title>${escape(title)}</title>
  ${styles}
  <rect class="back" width="${width}" height="${height}" rx="8"/>
  ${[text(16, 26, title, 'class="title"'), ...parts].join("\n  ")}
</svg>
`

/** From where on a curve of times stays above its first value by half of it. */
export const slower = (points: Line["points"], why: string): Curves["bend"] => {
  const limit = 1.5 * (points[0]?.[1] ?? Number.NaN)
  const within = points.findLastIndex(([, y]) => y <= limit)
  const bend = points[within + 1]
  return bend === undefined
    ? undefined
    : { x: bend[0], text: `more than 1.5 times the first value from here on; ${why}` }
}

/** From where on a curve of throughput grows by less than the square root of what is added. */
export const flatter = (points: Line["points"], why: string): Curves["bend"] => {
  const bend = points.find(([x, y], i) => {
    const next = points[i + 1]
    return next !== undefined && Math.log(next[1] / y) < 0.5 * Math.log(next[0] / x)
  })
  return bend === undefined
    ? undefined
    : { x: bend[0], text: `grows by less than the square root of what is added; ${why}` }
}

/** Three digits, and a letter for thousands and millions. */
export const short = (value: number): string => {
  const [divisor, suffix] =
    value >= 1_000_000 ? [1_000_000, " M"] : value >= 10_000 ? [1_000, " k"] : ([1, ""] as const)
  const scaled = Number((value / divisor).toPrecision(3))
  return scaled.toLocaleString("en", { maximumFractionDigits: 3 }) + suffix
}

/** Powers of ten around values. */
const decades = (values: ReadonlyArray<number>): readonly [from: number, to: number] => [
  Math.floor(Math.log10(Math.min(...values))),
  Math.ceil(Math.log10(Math.max(...values)))
]

export const bars = ({ bars, title, unit }: Bars): string => {
  const [left, top, bar, gap] = [280, 44, 20, 10]
  const values = bars.map(({ value }) => value)
  const from = Math.floor(Math.log10(Math.min(...values))) - 0.5
  const to = Math.ceil(Math.log10(Math.max(...values)))
  const bottom = top + bars.length * (bar + gap)
  const right = width - 90
  const x = (value: number) => left + ((Math.log10(value) - from) / (to - from)) * (right - left)
  const ticks = Array.from({ length: to - Math.ceil(from) + 1 }, (_, i) => 10 ** (Math.ceil(from) + i))
  return document(bottom + 44, title, [
    ...ticks.flatMap((tick) => [
      `<line class="grid" x1="${round(x(tick))}" y1="${top - 4}" x2="${round(x(tick))}" y2="${bottom}"/>`,
      text(x(tick), bottom + 16, short(tick), 'class="muted" text-anchor="middle"')
    ]),
    ...bars.flatMap(({ name, ours, value }, i) => {
      const y = top + i * (bar + gap)
      return [
        text(left - 10, y + 15, name, 'text-anchor="end"'),
        `<rect class="${ours ? "ours" : "other"}" x="${left}" y="${y}" width="${round(x(value) - left)}" height="${bar}" rx="3"/>`,
        text(x(value) + 6, y + 15, short(value))
      ]
    }),
    text((left + right) / 2, bottom + 34, `${unit}, logarithmic`, 'class="muted" text-anchor="middle"')
  ])
}

export const curves = ({ bend, lines, title, x: xName, y: yName }: Curves): string => {
  const [left, right, top, bottom] = [70, width - 30, 88, 350]
  const points = lines.flatMap((line) => line.points)
  const [x0, x1] = [Math.log10(Math.min(...points.map(([x]) => x))), Math.log10(Math.max(...points.map(([x]) => x)))]
  const [y0, y1] = decades(points.map(([, y]) => y))
  const x = (value: number) => left + ((Math.log10(value) - x0) / (x1 - x0)) * (right - left)
  const y = (value: number) => bottom - ((Math.log10(value) - y0) / (y1 - y0)) * (bottom - top)
  const xTicks = [...new Set(points.map(([value]) => value))]
  const yTicks = Array.from({ length: y1 - y0 + 1 }, (_, i) => 10 ** (y0 + i))
  return document(bottom + (bend === undefined ? 56 : 78), title, [
    ...lines.flatMap(({ name }, i) => [
      `<circle class="d${i}" cx="${26 + i * 180}" cy="46" r="5"/>`,
      text(36 + i * 180, 50, name)
    ]),
    ...yTicks.flatMap((tick) => [
      `<line class="grid" x1="${left}" y1="${round(y(tick))}" x2="${right}" y2="${round(y(tick))}"/>`,
      text(left - 8, y(tick) + 4, short(tick), 'class="muted" text-anchor="end"')
    ]),
    text(16, 72, yName, 'class="muted"'),
    ...xTicks.map((tick) => text(x(tick), bottom + 18, short(tick), 'class="muted" text-anchor="middle"')),
    text((left + right) / 2, bottom + 40, xName, 'class="muted" text-anchor="middle"'),
    ...(bend === undefined
      ? []
      : [
          `<line class="bend" x1="${round(x(bend.x))}" y1="${top}" x2="${round(x(bend.x))}" y2="${bottom}"/>`,
          text(16, bottom + 62, `Dashed, at ${short(bend.x)}: ${bend.text}.`, 'class="muted"')
        ]),
    ...lines.flatMap(({ points }, i) => [
      `<polyline class="line s${i}" points="${points.map(([px, py]) => `${round(x(px))},${round(y(py))}`).join(" ")}"/>`,
      ...points.map(([px, py]) => `<circle class="d${i}" cx="${round(x(px))}" cy="${round(y(py))}" r="3.5"/>`)
    ])
  ])
}
