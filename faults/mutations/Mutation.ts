/** One protective step of the library that can be switched off in a copy of its sources. */

/** A text that occurs exactly once in a file, and what takes its place. */
export interface Edit {
  readonly file: string
  readonly text: string
  readonly replacement: string
}

export interface Mutation {
  readonly name: string
  /** The promise that the step protects, "G1" to "G12". */
  readonly guarantee: `G${number}`
  /** The step, as the table names it. */
  readonly step: string
  readonly edits: ReadonlyArray<Edit>
  /** The files of tests of which one must notice. */
  readonly tests: ReadonlyArray<string>
  /**
   * Which of their tests are run, where all of them would take long: a regular expression. One of those that it matches must pass in spite of
   * the mutation, so that what breaks everything is told apart.
   */
  readonly only?: string
  /** Why nothing notices: another step protects the same. Both are then switched off together in a mutation of their own. */
  readonly redundant?: string
}

export const edit = (file: string, text: string, replacement = ""): Edit => ({ file, text, replacement })

/** How often a text occurs in another one. */
export const occurrences = (text: string, content: string): number => content.split(text).length - 1

/** The content with the edit made. Throws where the text does not occur exactly once. */
export const apply = ({ file, replacement, text }: Edit, content: string): string => {
  const found = occurrences(text, content)
  if (found !== 1) throw new Error(`${file} has ${found} occurrences of: ${text}`)
  // As a function, because a string would have its dollar signs interpreted.
  return content.replace(text, () => replacement)
}
