// Uses the TypeScript client of @hey-api/openapi-ts against a running SkyAuth, and prints what each step returned as JSON.
import { client } from './generated/client.gen';
import * as sky from './generated';

declare const process: { env: Record<string, string>; exitCode: number };

/** Returns the data of a successful response. */
async function ok<T>(response: Promise<{ data?: T; error?: unknown }>): Promise<NonNullable<T>> {
  const { data, error } = await response;
  if (data === undefined || data === null) throw new Error(JSON.stringify(error));
  return data;
}

async function main(): Promise<void> {
  client.setConfig({
    baseUrl: process.env.SKYAUTH_URL,
    // hey-api asks for each of the schemes that an operation accepts, and sends the last one that it gets.
    auth: ({ scheme }) => (scheme === 'bearer' ? process.env.SKYAUTH_TOKEN : undefined),
  });
  const steps: Record<string, unknown> = {};

  const carol = await ok(sky.usersCreate({ body: { username: 'carol@example.com', role: 'viewer' } }));
  const path = { uid: carol.uid };
  steps['created'] = carol.username;
  const listed = await ok(sky.usersList({ query: { search: 'carol', active: true, ordering: '-username' } }));
  steps['listed'] = listed.results.map((row) => row.username);
  steps['read'] = (await ok(sky.usersRetrieve({ path }))).role;
  const changed = await ok(sky.usersPartialUpdate({ path, body: { active: false, display_name: 'Carol' } }));
  steps['updated'] = [changed.active, changed.display_name, changed.role];
  const stale = { path, body: { active: true }, headers: { 'If-Match': '"0"' } };
  steps['stale'] = (await sky.usersPartialUpdate(stale)).response?.status;
  const disabled = await ok(sky.usersList({ query: { active: false } }));
  steps['listed disabled'] = disabled.results.map((row) => row.username);
  // What was read is sent back as a whole, with one change.
  const whole = { ...changed, active: true, created_at: new Date(changed.created_at).toISOString() };
  steps['sent back'] = (await sky.usersPartialUpdate({ path, body: whole })).response?.status;

  const csv = 'username,role\ndora@example.com,viewer\n';
  const tried = await ok(sky.usersImportCreate({ body: { csv }, query: { dry_run: true } }));
  if ('applied' in tried) steps['import tried'] = [tried.applied, tried.created];
  const imported = await ok(sky.usersImportCreate({ body: { csv } }));
  if ('applied' in imported) steps['imported'] = imported.created;
  // A key makes it a job; the second call is a retry.
  const again = { csv: `${csv}erin@example.com,viewer\n` };
  const retried = { body: again, query: { update: true }, headers: { 'Idempotency-Key': 'erin-typescript' } };
  const started = [await ok(sky.usersImportCreate(retried)), await ok(sky.usersImportCreate(retried))];
  const ids = started.map((result) => ('id' in result ? result.id : ''));
  let job = await ok(sky.jobsRetrieve({ path: { job: ids[1] } }));
  while (job.state === 'waiting' || job.state === 'running') {
    await new Promise((resolve) => setTimeout(resolve, 100));
    job = await ok(sky.jobsRetrieve({ path: { job: ids[1] } }));
  }
  steps['imported by a job'] = [ids[0] === ids[1], job.state, job.result?.created];
  const exported: string = await ok(sky.usersExportRetrieve());
  steps['exported'] = exported.trim().split(/\r?\n/).map((line) => line.split(',')[0]);

  const robot = await ok(sky.serviceAccountsCreate({ body: { name: 'sweeper', role: 'viewer' } }));
  const account = robot.uid;
  const token = await ok(sky.serviceAccountsTokensCreate({ path: { account }, body: { days: 1, name: 'nightly' } }));
  const rotated = await ok(
    sky.serviceAccountsTokensRotateCreate({ path: { account, key_id: token.key_id }, body: { grace: 60 } }),
  );
  steps['rotated'] = rotated.token !== token.token && rotated.token.startsWith('sky_');
  const revoked = await ok(sky.serviceAccountsTokensRevokeCreate({ path: { account, key_id: rotated.key_id } }));
  steps['revoked'] = revoked.state;
  const unowned = await ok(sky.serviceAccountsList({ query: { unowned: true } }));
  steps['unowned'] = unowned.results.map((row) => row.name);

  const route = await ok(sky.routesCreate({ body: { path: '/x/**', methods: ['GET'], permission: 'upstream:read' } }));
  const id = { id: route.id };
  const note = await ok(sky.routesPartialUpdate({ path: id, headers: { 'If-Match': '*' }, body: { note: 'Why.' } }));
  steps['route updated'] = note.note;
  const ifMatch = { 'If-Match': `"${note.version}"` };
  steps['route deleted'] = (await sky.routesDestroy({ path: id, headers: ifMatch })).response?.status;
  const explained = await ok(sky.policyExplain({ query: { method: 'GET', path: '/x', who: 'dora@example.com' } }));
  steps['explained'] = explained.principal.name;

  steps['account deleted'] = (await sky.serviceAccountsDestroy({ path: { uid: account } })).response?.status;
  steps['user deleted'] = (await sky.usersDestroy({ path })).response?.status;
  const missing = await sky.usersRetrieve({ path });
  steps['missing'] = [missing.response?.status, missing.error?.code];
  for (const search of ['dora', 'erin']) {
    const found = await ok(sky.usersList({ query: { search } }));
    await sky.usersDestroy({ path: { uid: found.results[0]!.uid } });
  }
  console.log(JSON.stringify(steps));
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
