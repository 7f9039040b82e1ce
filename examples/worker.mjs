// A worker in another language: the protocol is five SQL functions. Needs Node 18 or newer and the package `pg`.
//
//   DATABASE_URL=postgresql://… APP=shop node worker.mjs
//
// It executes runs whose executor is "node": {"task": "add", "args": {"a": 1, "b": 2}}.
import pg from 'pg';

const app = process.env.APP ?? 'default';
const tasks = {
  add: async ({ a, b }) => ({ sum: a + b }),
  fail: async () => { throw new Error('this task always fails'); },
};

const connect = async () => {
  const url = process.env.DATABASE_URL;
  const client = new pg.Client(url ? { connectionString: url } : {}); // otherwise PGHOST, PGUSER, PGDATABASE
  client.on('error', (error) => { console.error(error.message); process.exit(1); });
  await client.connect();
  return client;
};

// Heartbeats have a connection of their own, so that a slow statement is not taken for a death.
const [work, life, ears] = await Promise.all([connect(), connect(), connect()]);

const { rows: [{ worker }] } = await work.query(
  'select scheduler.register_worker($1, p_pid => $2, p_apps => $3, p_executors => $4) as worker',
  ['node example', process.pid, [app], ['node']]);
console.log(`worker ${worker} is ready`);

// Every second. JS004 means: declared dead, others have the work. Stop at once; nothing we report would count.
setInterval(() => life.query('select scheduler.heartbeat($1)', [worker]).catch((error) => {
  console.error(error.message);
  process.exit(1);
}), 1000);

// A notification is a hint: the loop looks once a second without one. They are sent to those who ask for them.
let wake = () => {};
await ears.query('listen scheduler_run');
await ears.query('select scheduler.await_hints($1)', [[app]]);
ears.on('notification', () => wake());
const nap = () => new Promise((done) => { wake = done; setTimeout(done, 1000); });

let stopping = false;
process.on('SIGTERM', () => { stopping = true; wake(); });

while (!stopping) {
  const { rows } = await work.query(
    "select lease, id, spec, attempt from scheduler.claim($1, $2, 'default', 10, array['node'])", [app, worker]);
  if (rows.length === 0) {
    await nap();
    continue;
  }
  const ends = await Promise.all(rows.map(async ({ spec }) => {
    try {
      const task = tasks[spec.task] ?? (() => { throw new Error(`unknown task ${spec.task}`); });
      return { outcome: 'succeeded', result: JSON.stringify(await task(spec.args ?? {})), error: null };
    } catch (error) {
      return { outcome: 'failed', result: null, error: error.message };
    }
  }));
  // Whoever no longer holds the lease changes nothing: the answer is how many of the reports counted.
  await work.query(
    'select scheduler.finish($1, $2, $3, $4::bigint[], $5::text[], $6::text[]::jsonb[], $7::text[])',
    [app, worker, rows[0].lease, rows.map((row) => row.id),
      ends.map((end) => end.outcome), ends.map((end) => end.result), ends.map((end) => end.error)]);
}

await life.query('select scheduler.retire_worker($1)', [worker]);
process.exit(0);
