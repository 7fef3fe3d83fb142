/**
 * One clock for all processes of a run: CLOCK_MONOTONIC, in milliseconds. It
 * neither jumps nor differs between processes of one machine.
 */
export const now = (): number => Number(process.hrtime.bigint()) / 1_000_000
