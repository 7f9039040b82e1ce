// graphile-worker. BENCH_VARIANT=batched: local queue and batched completion; default: a statement or two per job.
import { DSN, VARIANT, drive, payload, require } from "./protocol.mjs";

const pg = require("pg");
const { Logger, makeWorkerUtils, run } = require("graphile-worker");
const CONCURRENCY = 24;
const LOCAL_QUEUE = 2000; // its documentation shows 500; 2,000 drained 14 % more here
const logger = new Logger(() => () => {});
let utils;

await drive({
  batch: 20_000,
  async setup() {
    const migrating = await makeWorkerUtils({ connectionString: DSN, logger });
    await migrating.migrate();
  },
  async open() {
    const pgPool = new pg.Pool({ connectionString: DSN, max: 1 });
    utils = await makeWorkerUtils({ pgPool, logger });
    await pgPool.query("select 1");
  },
  one: (i) => utils.addJob("t", payload(i)),
  many: (all) => utils.addJobs(all.map((i) => ({ identifier: "t", payload: payload(i) }))),
  later: (dues) => utils.addJobs(dues.map(([i, runAt]) => ({ identifier: "t", payload: payload(i), runAt }))),
  async work(mode, hit) {
    const worker = { connectionString: DSN, concurrentJobs: CONCURRENCY, maxPoolSize: CONCURRENCY + 1, logger };
    if (VARIANT === "batched") {
      Object.assign(worker, { localQueue: { size: LOCAL_QUEUE }, completeJobBatchDelay: 0, failJobBatchDelay: 0 });
      if (mode === "drain") worker.localQueue.refetchDelay = { durationMs: 10 };
    }
    await run({ preset: { worker }, noHandleSignals: true, taskList: { t: ({ i }) => hit(i) } });
  },
});
