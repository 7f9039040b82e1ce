// The life cycle of events and jobs, as a client knows it that has read Distribuerad's README and nothing else.
import assert from 'node:assert/strict';

const base = process.argv[2];
const json = { 'Content-Type': 'application/json' };
const call = async (method, path, body, headers = json) => {
  const response = await fetch(base + path, { method, headers, body: body && JSON.stringify(body) });
  const text = await response.text();
  return { status: response.status, body: text && response.status < 300 ? JSON.parse(text) : text };
};
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const until = async (what, seconds = 30) => {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await sleep(50)) {
    const found = await what();
    if (found) return found;
  }
  assert.fail(`it did not come: ${what}`);
};
const events = async (channel) => (await call('GET', `/${channel}/events/`)).body.events;

// A channel is there once somebody says its name.
assert.deepEqual(await call('GET', '/orders/events'), {
  status: 200, body: { channelName: 'orders', count: 0, events: [] },
});

// 1. Add an event, and one for later.
const data = JSON.stringify({ order: 42, note: 'ü "quoted"\n' });
const first = await call('POST', '/orders/events/', { data, ttl: '1h30m10s' });
assert.equal(first.status, 201);
assert.deepEqual(Object.keys(first.body).sort(), ['data', 'eventID', 'isLocked', 'livesUntil', 'publishedAt']);
assert.equal(first.body.data, data);
assert.equal(first.body.isLocked, false);
assert.equal(new Date(first.body.livesUntil) - new Date(first.body.publishedAt), 5410_000);
const plain = await call('POST', '/orders/events', { data: 'plain' });
assert.equal(new Date(plain.body.livesUntil) - new Date(plain.body.publishedAt), 600_000);
const publishAt = new Date(Date.now() + 4000).toISOString();
const later = await call('POST', '/orders/events', { data: 'later', publishAt });
assert.equal(later.status, 201);
assert.equal(new Date(later.body.publishedAt).toISOString(), publishAt);

// 2. Receive the queue.
const queue = await call('GET', '/orders/events');
assert.equal(queue.body.count, 2);
assert.deepEqual(queue.body.events, [first.body, plain.body]);
await until(async () => (await events('orders')).some((event) => event.data === 'later'));
assert.ok(Date.now() >= Date.parse(publishAt) - 20, 'not before its instant');

// 3. Acquire it: the first one gets it.
const path = `/orders/events/${first.body.eventID}`;
assert.deepEqual(await call('PATCH', path, { action: 'LOCK', ttl: '10s' }), { status: 202, body: '' });
assert.equal((await call('PUT', path, {})).status, 410);
assert.equal((await events('orders'))[0].isLocked, true);
assert.equal((await call('PUT', path, { action: 'UNLOCK' })).status, 202);
assert.equal((await events('orders'))[0].isLocked, false);
assert.equal((await call('PUT', path, { ttl: '300ms' })).status, 202);
await until(async () => (await events('orders'))[0].isLocked === false);
assert.equal((await call('PATCH', path, {})).status, 202);

// 4. Remove it, locked or not.
assert.equal((await call('DELETE', path)).status, 202);
assert.equal((await call('DELETE', path)).status, 404);
assert.equal((await call('PATCH', path, { action: 'LOCK' })).status, 410);
assert.equal((await call('PATCH', path, { action: 'UNLOCK' })).status, 410);
assert.equal((await call('DELETE', `/orders/events/${plain.body.eventID}`)).status, 202);
assert.equal((await call('DELETE', '/orders/events/no-such-event')).status, 404);

// What has expired is gone.
const short = await call('POST', '/orders/events', { data: 'short', ttl: '200ms' });
await until(async () => !(await events('orders')).some((event) => event.eventID === short.body.eventID));
assert.equal((await call('DELETE', `/orders/events/${short.body.eventID}`)).status, 404);

// Jobs.
const job = { name: 'beat', data: 'boom', cronDef: '@every 1s', ttl: '1.5h' };
const made = await call('POST', '/pulse/jobs', job);
assert.equal(made.status, 201);
assert.deepEqual(Object.keys(made.body).sort(), ['createdAt', 'cron', 'data', 'jobID', 'ttl']);
assert.deepEqual([made.body.jobID, made.body.cron, made.body.data, made.body.ttl], ['beat', '@every 1s', 'boom', 5400e9]);
assert.equal((await call('POST', '/pulse/jobs', job)).status, 409);
for (const cronDef of ['30 3 * * *', '@yearly', '@annually', '@monthly', '@weekly', '@daily', '@midnight', '@hourly',
  '@every 1h30m10s', 'CRON_TZ=Asia/Tokyo 30 4 * * *', 'TZ=America/New_York 0 9 * * 1-5']) {
  assert.equal((await call('POST', '/times/jobs/', { name: cronDef, cronDef, data: '' })).status, 201, cronDef);
}
const times = (await call('GET', '/times/jobs')).body;
assert.equal(times.channelName, 'times');
assert.equal(times.jobs.length, 11);
for (const { jobID } of times.jobs) {
  assert.equal((await call('DELETE', `/times/jobs/${encodeURIComponent(jobID)}`)).status, 202);
}
assert.deepEqual((await call('GET', '/times/jobs/')).body.jobs, []);
const [one, two] = await until(async () => { const all = await events('pulse'); return all.length >= 2 && all; });
assert.equal(one.data, 'boom');
assert.equal(new Date(two.publishedAt) - new Date(one.publishedAt), 1000);
assert.equal(new Date(one.livesUntil) - new Date(one.publishedAt), 5_400_000);
assert.equal((await call('DELETE', '/pulse/jobs/beat')).status, 202);
assert.equal((await call('DELETE', '/pulse/jobs/beat')).status, 404);
const left = await events('pulse');
assert.ok(left.length >= 2, 'what was published stays');
await sleep(1300);
assert.equal((await events('pulse')).length, left.length, 'a job that was removed publishes nothing');

// What is wrong is refused.
for (const [method, where, body] of [
  ['POST', '/orders/events', { data: 'x', ttl: 'soon' }],
  ['POST', '/orders/events', { data: 'x', ttl: '-5m' }],
  ['POST', '/orders/events', { data: 'x', publishAt: 'tomorrow' }],
  ['POST', '/orders/events', { data: 5 }],
  ['POST', '/orders/events', 'text'],
  ['PUT', `/orders/events/${later.body.eventID}`, { action: 'STEAL' }],
  ['PUT', `/orders/events/${later.body.eventID}`, { ttl: 'soon' }],
  ['POST', '/orders/jobs', { name: 'bad', cronDef: '99 * * * *', data: '' }],
  ['POST', '/orders/jobs', { name: 'bad', cronDef: '@every soon', data: '' }],
  ['POST', '/orders/jobs', { name: 'bad', cronDef: '@daily', data: '', ttl: 'soon' }],
  ['POST', '/orders/jobs', { name: '', cronDef: '@daily', data: '' }],
  ['POST', '/orders/jobs', { cronDef: '@daily', data: '' }],
]) {
  assert.equal((await call(method, where, body)).status, 400, JSON.stringify(body));
}
assert.equal((await call('POST', '/orders/events', { data: 'typed' }, { 'Content-Type': 'text/plain' })).status, 201);
console.log('done');
