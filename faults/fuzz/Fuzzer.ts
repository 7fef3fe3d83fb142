/**
 * Feeds a parser with mutated texts. What leads to an answer of a kind that was not seen before joins the corpus, so that
 * the search goes on from where it found something; the seed makes it the same each time.
 */
import type { Random } from "../Random.ts"

export interface Target {
  /** Valid texts to begin with. */
  readonly seeds: ReadonlyArray<string>
  /** Pieces that the format is made of. */
  readonly pieces: ReadonlyArray<string>
  /** Runs the parser, fails where it is wrong, and names the kind of its answer. */
  readonly run: (text: string) => string
}

const maxCorpus = 2_000

/** Runs so many texts; answers the kinds of answers that were seen, and how often. */
export const run = ({ pieces, run, seeds }: Target, count: number, random: Random): ReadonlyMap<string, number> => {
  const corpus = [...seeds]
  const seen = new Map<string, number>()
  for (let i = 0; i < count; i++) {
    let text = random.pick(corpus)
    for (let changes = random.integer(1, 4); changes > 0; changes--) text = mutated(text, corpus, pieces, random)
    const kind = run(text)
    const times = (seen.get(kind) ?? 0) + 1
    seen.set(kind, times)
    // The first few of a kind, so that no kind crowds out the others.
    if (times <= 20 && corpus.length < maxCorpus) corpus.push(text)
  }
  return seen
}

const mutated = (
  text: string,
  corpus: ReadonlyArray<string>,
  pieces: ReadonlyArray<string>,
  random: Random
): string => {
  const at = random.integer(0, text.length)
  const before = text.slice(0, at)
  switch (random.integer(0, 6)) {
    case 0: // another character
      return before + character(random) + text.slice(at + 1)
    case 1: // one more
      return before + character(random) + text.slice(at)
    case 2: // some fewer
      return before + text.slice(at + random.integer(1, 8))
    case 3: // a piece of the format
      return before + random.pick(pieces) + text.slice(at)
    case 4: // a piece in the place of something
      return before + random.pick(pieces) + text.slice(at + random.integer(1, 24))
    case 5: {
      // a part once more
      const part = text.slice(at, at + random.integer(1, 64))
      return before + part.repeat(random.integer(1, random.chance(0.02) ? 400 : 3)) + text.slice(at)
    }
    default: // the end of another
      return before + random.pick(corpus).slice(random.integer(0, 40))
  }
}

const odd = [
  "\u0000",
  "\n",
  "\r",
  "\t",
  " ",
  "\u00a0",
  "\ud800",
  "\udc00",
  "\uffff",
  "é",
  "🐘",
  ";",
  "=",
  ".",
  "-",
  '"',
  "%"
]

const character = (random: Random): string =>
  random.chance(0.5) ? random.pick(odd) : String.fromCharCode(random.integer(0, random.chance(0.5) ? 127 : 65_535))
