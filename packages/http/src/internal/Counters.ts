/** Metrics that are counted where things happen; all others are read from the store when somebody looks. */
import * as Metric from "effect/Metric"

export const cookiesRefused = Metric.counter("session_cookies_refused", {
  description: "Session cookies that were refused before anybody looked for their session",
  incremental: true
})

export const csrfRejections = Metric.counter("session_csrf_rejections", {
  description: "Requests that were refused because nothing proved that they come from this site",
  incremental: true
})
