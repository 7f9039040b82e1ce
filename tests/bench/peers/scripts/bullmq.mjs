// bullmq on Redis.
import { REDIS, drive, payload, require } from "./protocol.mjs";

const { Queue, Worker } = require("bullmq");
const { Redis } = require("ioredis");
const CONCURRENCY = 100;
const connect = () => new Redis(REDIS, { maxRetriesPerRequest: null });
let queue;

await drive({
  batch: 2000,
  setup: () => connect().flushall(),
  async open() {
    const defaultJobOptions = { removeOnComplete: true, removeOnFail: true };
    queue = new Queue("q", { connection: connect(), defaultJobOptions });
    await queue.waitUntilReady();
  },
  one: (i) => queue.add("t", payload(i)),
  many: (all) => queue.addBulk(all.map((i) => ({ name: "t", data: payload(i) }))),
  later: (dues) =>
    queue.addBulk(dues.map(([i, at]) => ({ name: "t", data: payload(i), opts: { delay: at.getTime() - Date.now() } }))),
  async work(mode, hit) {
    new Worker("q", async (job) => hit(job.data.i), { connection: connect(), concurrency: CONCURRENCY });
  },
});
