/** An Express application that changes one line: its sessions are in PostgreSQL, and read from memory. */
import { toExpressStore } from "@effect-pg-session/http"
import { PgSessionLive } from "@effect-pg-session/pg"
import { ManagedRuntime } from "effect"
import express from "express"
import session from "express-session"
import { deepStrictEqual } from "node:assert/strict"
import { once } from "node:events"

const runtime = ManagedRuntime.make(PgSessionLive)
const app = express()
const store = toExpressStore(session.Store, runtime) // the line
app.use(session({ secret: "keep it in a secret store", resave: false, saveUninitialized: false, store }))
app.get("/", (request, response) => {
  const visits = Number(Reflect.get(request.session, "visits") ?? 0) + 1
  Reflect.set(request.session, "visits", visits)
  response.send(`visit ${visits}`)
})
const server = app.listen(0, "127.0.0.1")
await once(server, "listening")
const address = server.address()
const url = `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`
const first = await fetch(url)
const cookie = first.headers.getSetCookie()[0]?.split(";")[0] ?? ""
const answers = [await first.text(), await fetch(url, { headers: { cookie } }).then((second) => second.text())]
console.log(answers.join(", "))
deepStrictEqual(answers, ["visit 1", "visit 2"])
server.close()
await runtime.dispose()
