// pg-boss with LISTEN/NOTIFY, which is off by default, and its shortest polling interval.
import { DSN, drive, payload, require } from "./protocol.mjs";

const { PgBoss } = await import(require.resolve("pg-boss"));
const POLLING = { burstWhenBatchFull: true, pollingIntervalSeconds: 0.5, notifyPollingIntervalSeconds: 0.5 };
const SIZES = { drain: { batchSize: 5000, localConcurrency: 2 }, trickle: { batchSize: 100, localConcurrency: 4 } };
let boss;

async function started(options) {
  const made = new PgBoss({ connectionString: DSN, schedule: false, ...options });
  made.on("error", (error) => process.stderr.write(`${error}\n`));
  await made.start();
  return made;
}

await drive({
  batch: 10_000,
  async setup() {
    const made = await started({ supervise: false });
    await made.createQueue("q", { notify: true });
  },
  async open() {
    boss = await started({ supervise: false });
  },
  one: (i) => boss.send("q", payload(i)),
  many: (all) => boss.insert("q", all.map((i) => ({ data: payload(i) }))),
  later: (dues) => boss.insert("q", dues.map(([i, at]) => ({ data: payload(i), startAfter: at.toISOString() }))),
  async work(mode, hit) {
    const worker = await started({ useListenNotify: true, supervise: true, max: 10 });
    await worker.work("q", { ...SIZES[mode], ...POLLING }, async (jobs) => jobs.forEach((job) => hit(job.data.i)));
  },
});
