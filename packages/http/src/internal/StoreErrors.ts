/**
 * From core's errors to answers: what the caller may know. The rest goes to the
 * log, where core's messages may go as they are.
 */
import type {
  AttributeInvalid,
  AttributeTooLarge,
  AttributeVersionMismatch,
  SessionNotFound,
  SessionStoreUnavailable,
  SessionTooLarge,
  TooManySessions,
  VersionMismatch
} from "@effect-pg-session/core"
import * as Effect from "effect/Effect"
import {
  SessionConflict,
  SessionDataTooLarge,
  SessionLimitReached,
  SessionUnavailable,
  StepUpRequired,
  Unauthenticated
} from "../SessionHttpError.ts"

/** Made once: whoever is not logged in must not cost more than who is. */
export const unauthenticated: Effect.Effect<never, Unauthenticated> = Effect.fail(new Unauthenticated())

export const stepUpRequired: Effect.Effect<never, StepUpRequired> = Effect.fail(new StepUpRequired())

/** Every error of core that a request can run into. */
export type StoreError =
  | SessionNotFound
  | VersionMismatch
  | AttributeVersionMismatch
  | AttributeInvalid
  | AttributeTooLarge
  | SessionTooLarge
  | TooManySessions
  | SessionStoreUnavailable

/** What an error of core is answered with; a value that no schema can encode is a defect of the application. */
export type Answer<E> = E extends SessionNotFound
  ? Unauthenticated
  : E extends VersionMismatch | AttributeVersionMismatch
    ? SessionConflict
    : E extends AttributeTooLarge | SessionTooLarge
      ? SessionDataTooLarge
      : E extends TooManySessions
        ? SessionLimitReached
        : E extends SessionStoreUnavailable
          ? SessionUnavailable
          : never

const answer = (error: StoreError): Effect.Effect<never, Answer<StoreError>> => {
  switch (error._tag) {
    case "SessionNotFound":
      return unauthenticated
    case "VersionMismatch":
    case "AttributeVersionMismatch":
      return Effect.fail(new SessionConflict())
    case "AttributeTooLarge":
    case "SessionTooLarge":
      return Effect.andThen(Effect.logDebug(error.message), Effect.fail(new SessionDataTooLarge()))
    case "TooManySessions":
      return Effect.fail(new SessionLimitReached())
    case "SessionStoreUnavailable":
      return Effect.andThen(Effect.logWarning(error.message), Effect.fail(new SessionUnavailable()))
    case "AttributeInvalid":
      return Effect.die(error)
  }
}

/** Replaces an error of core by its answer. */
export const answerWith = <E extends StoreError>(error: E): Effect.Effect<never, Answer<E>> =>
  // `Answer` distributes over exactly what `answer` switches on.
  answer(error) as Effect.Effect<never, Answer<E>>
