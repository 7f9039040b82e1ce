// The script's side of a measurement for peers that live in Node: the same words and loops as protocol.py.
import { createRequire } from "node:module";
import readline from "node:readline";

const LEAD = 3000; // ms
const REPORT_EVERY = 10; // ms
const PAD = "x".repeat(31);

export const DSN = process.env.BENCH_DSN;
export const REDIS = process.env.BENCH_REDIS;
export const VARIANT = process.env.BENCH_VARIANT;
/** Packages come from the cache folder, not from beside this file. */
export const require = createRequire(`${process.env.BENCH_NODE}/`);
export const payload = (i) => ({ i, k: PAD });

const now = () => process.hrtime.bigint();
const secondsSince = (began) => Number(now() - began) / 1e9;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const say = (object) => new Promise((resolve) => process.stdout.write(`${JSON.stringify(object)}\n`, resolve));
const numbers = (first, end) => Array.from({ length: end - first }, (_, i) => first + i);

/** Says that this worker process is loaded, and waits until it may start; the answer is called first in every handler. */
async function ready(mode, size) {
  const times = mode === "trickle" ? new BigInt64Array(size) : null;
  let count = 0, first = 0n, last = 0n, reported = 0;
  const report = () => {
    if (count === reported) return;
    reported = count;
    say({ count, first: Number(first), last: Number(last) });
  };
  const stop = async () => {
    const starts = times ? numbers(0, size).filter((i) => times[i]).map((i) => [i, Number(times[i])]) : [];
    await say({ times: starts });
    process.exit(0);
  };
  process.stdout.write("READY\n");
  const lines = readline.createInterface({ input: process.stdin });
  lines.on("close", () => process.exit(0));
  await new Promise((go) => lines.on("line", (line) => (line.startsWith("GO") ? go() : stop())));
  setInterval(report, REPORT_EVERY);
  return (number) => {
    last = now();
    if (count++ === 0) first = last;
    if (times) times[number] = last;
  };
}

/** peer: {batch, setup(), open(), one(i), many([i…]), later([[i, Date]…]), work(mode, hit)}, all async. */
export async function drive(peer) {
  const [command, a, b] = process.argv.slice(2);
  const count = Number(a);
  if (command === "setup") await peer.setup();
  else if (command === "work") return peer.work(a, await ready(a, Number(b)));
  else await peer.open();
  if (command === "enqueue") {
    await peer.one(0);
    const began = now();
    for (let i = 0; i < count; i++) await peer.one(i);
    await say({ seconds: secondsSince(began) });
  } else if (command === "bulk") {
    const began = now();
    for (let i = 0; i < count; i += peer.batch) await peer.many(numbers(i, Math.min(i + peer.batch, count)));
    await say({ seconds: secondsSince(began) });
  } else if (command === "pick-up") {
    const sent = [];
    const began = performance.now();
    for (let i = 0; i < count; i++) {
      await sleep(Math.max(0, began + i * Number(b) * 1000 - performance.now()));
      await peer.one(i);
      sent.push([i, Number(now())]);
    }
    await say({ sent });
  } else if (command === "delayed") {
    const first = Date.now() + LEAD;
    const dues = numbers(0, count).map((i) => [i, new Date(first + Math.round((i * Number(b) * 1000) / count))]);
    await peer.later(dues);
    await say({ due: dues.map(([i, at]) => [i, at.getTime() / 1000]) });
  }
  process.exit(0);
}
