/**
 * The attributes of one version of a session, in little memory: a node keeps those
 * of all its cached sessions. Sessions that have attributes of the same names in the
 * same order, and most of an application's do, share one list of the names.
 */
import * as Exit from "effect/Exit"
import { decode, type SessionAttribute } from "../SessionAttribute.ts"
import type { AttributeInvalid } from "../SessionError.ts"
import type { SessionRow, StoredAttribute } from "../SessionRow.ts"

/** Most versions are small, and each is an object where it is not shared. */
const smallVersions = Array.from({ length: 256 }, (_, version) => BigInt(version))
export const sharedVersion = (version: bigint): bigint => smallVersions[Number(version)] ?? version

interface NoValue {
  readonly by: unknown
  readonly exit: Exit.Exit<never, AttributeInvalid>
}

/** What could not be decoded, beside the slots: there is hardly any. */
const undecodable = new WeakMap<AttributeSlot, NoValue>()

/** A stored attribute, and its value once somebody has decoded it. */
export class AttributeSlot implements StoredAttribute {
  readonly value: string
  readonly version: bigint
  readonly expiresAt: number | undefined
  private decodedBy: SessionAttribute<never, unknown> | undefined = undefined
  private decoded: unknown = undefined

  constructor({ expiresAt, value, version }: StoredAttribute) {
    this.value = value
    this.version = sharedVersion(version)
    this.expiresAt = expiresAt
  }

  /** What was decoded before by this very definition. */
  memo<A, Missing>(attribute: SessionAttribute<A, Missing>): Exit.Exit<A, AttributeInvalid> | undefined {
    // The memo is only handed out to the definition that made it.
    return this.decodedBy === (attribute as unknown) ? Exit.succeed(this.decoded as A) : undefined
  }

  read<A, Missing>(attribute: SessionAttribute<A, Missing>): Exit.Exit<A, AttributeInvalid> {
    const known = this.memo(attribute)
    if (known !== undefined) return known
    const failed = undecodable.get(this)
    if (failed?.by === attribute) return failed.exit
    const { exit, shareable } = decode(attribute, this.value)
    if (Exit.isFailure(exit)) {
      undecodable.set(this, { by: attribute, exit: Exit.failCause(exit.cause) })
    } else if (shareable) {
      this.decodedBy = attribute as never
      this.decoded = exit.value
    }
    return exit
  }
}

/** Names of attributes in the order of their slots. */
class Shape {
  readonly names: ReadonlyArray<string>
  private readonly positions: ReadonlyMap<string, number> | undefined

  constructor(names: ReadonlyArray<string>) {
    this.names = names
    this.positions = names.length > scanned ? new Map(names.map((name, position) => [name, position])) : undefined
  }

  position(name: string): number {
    return this.positions === undefined ? this.names.indexOf(name) : (this.positions.get(name) ?? -1)
  }
}

/** Up to so many names are compared one after the other, which takes no longer than hashing. */
const scanned = 8
/** Names of up to so many attributes are shared, and so many lists of them kept: names may come from users. */
const maxSharedNames = 32
const maxShapes = 1_000

const shapes = new Map<string, Shape>()

const shapeOf = (names: ReadonlyArray<string>): Shape => {
  if (names.length > maxSharedNames) return new Shape(names)
  // No name holds a NUL: PostgreSQL's text cannot.
  const joined = names.join("\u0000")
  const known = shapes.get(joined)
  if (known !== undefined) return known
  if (shapes.size >= maxShapes) shapes.clear()
  const shape = new Shape(names)
  shapes.set(joined, shape)
  return shape
}

export class AttributeTable implements ReadonlyMap<string, AttributeSlot> {
  private readonly shape: Shape
  private readonly slots: ReadonlyArray<AttributeSlot>

  private constructor(shape: Shape, slots: ReadonlyArray<AttributeSlot>) {
    this.shape = shape
    this.slots = slots
  }

  /** The attributes of a row. Those that are the same in `previous` keep what was decoded there. */
  static from(attributes: SessionRow["attributes"], previous: AttributeTable | undefined): AttributeTable {
    if (attributes.size === 0) return empty
    if (attributes instanceof AttributeTable) return attributes
    const slots: Array<AttributeSlot> = []
    for (const [name, stored] of attributes) {
      const known = previous?.get(name)
      if (known !== undefined && isSame(known, stored)) slots.push(known)
      else slots.push(stored instanceof AttributeSlot ? stored : new AttributeSlot(stored))
    }
    // An array that has grown has room for 16 more.
    return new AttributeTable(shapeOf([...attributes.keys()]), slots.slice())
  }

  /** The same with some attributes set, and others removed. */
  with(
    set: ReadonlyArray<readonly [name: string, stored: StoredAttribute]>,
    removed: ReadonlyArray<string>
  ): AttributeTable {
    const positions = set.map(([name]) => this.shape.position(name))
    if (removed.length > 0 || positions.includes(-1)) {
      const attributes = new Map<string, StoredAttribute>(this)
      for (const name of removed) attributes.delete(name)
      for (const [name, stored] of set) attributes.set(name, stored)
      return AttributeTable.from(attributes, this)
    }
    // The same names in the same order, as nearly always.
    const slots = this.slots.slice()
    set.forEach(([, stored], index) => (slots[positions[index] ?? -1] = new AttributeSlot(stored)))
    return new AttributeTable(this.shape, slots)
  }

  static readonly empty: AttributeTable = new AttributeTable(new Shape([]), [])

  get size(): number {
    return this.slots.length
  }

  get(name: string): AttributeSlot | undefined {
    const position = this.shape.position(name)
    return position < 0 ? undefined : this.slots[position]
  }

  has(name: string): boolean {
    return this.shape.position(name) >= 0
  }

  keys(): MapIterator<string> {
    return this.shape.names.values()
  }

  values(): MapIterator<AttributeSlot> {
    return this.slots.values()
  }

  *entries(): MapIterator<[string, AttributeSlot]> {
    for (const [position, slot] of this.slots.entries()) yield [this.shape.names[position] as string, slot]
  }

  [Symbol.iterator](): MapIterator<[string, AttributeSlot]> {
    return this.entries()
  }

  forEach(use: (slot: AttributeSlot, name: string, map: ReadonlyMap<string, AttributeSlot>) => void): void {
    for (const [name, slot] of this) use(slot, name, this)
  }
}

const { empty } = AttributeTable

const isSame = (left: StoredAttribute, right: StoredAttribute): boolean =>
  left === right || (left.version === right.version && left.value === right.value && left.expiresAt === right.expiresAt)
