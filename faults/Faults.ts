/** Every kind of fault. */
import type { Fault } from "./Fault.ts"
import { faults as network } from "./kinds/Network.ts"

export const faults: ReadonlyArray<Fault> = [...network]
