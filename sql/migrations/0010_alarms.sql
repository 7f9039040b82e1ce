-- Alarms: who is told when something goes wrong, and over which channels. A rule is a row of `alarm`, written by anybody who
-- may; what is known of it is in `alarm_state`; `alarm_look` says how far each app was looked through. A notice is a run.

create table scheduler.alarm (
    app            text        not null default 'default',
    name           text        not null,
    kind           text        not null,
    job            text,                       -- null: all of the app's runs, whatever job they are of
    times          integer     not null default 1,
    within         interval    not null default '10 minutes',
    channels       jsonb       not null,       -- [{"channel": "slack", "url": "${secret:slack-url}"}, …]
    gather         interval    not null default '10 seconds',
    pause          interval    not null default '5 minutes',
    repeat         interval    not null default '4 hours',
    silence_ends_at timestamptz,
    created_at     timestamptz not null default now(),
    constraint alarm_pkey primary key (app, name),
    constraint app_is_1_to_100_characters check (length(app) between 1 and 100),
    constraint name_is_1_to_200_characters check (length(name) between 1 and 200),
    constraint kind_is_known check (
        kind in ('failed', 'failing', 'poison', 'missed', 'late', 'no_success', 'no_worker')
    ),
    constraint no_worker_is_of_an_app check (kind <> 'no_worker' or job is null),
    constraint times_is_1_to_1000 check (times between 1 and 1000),
    constraint only_what_happens_is_counted check (times = 1 or kind in ('failed', 'failing', 'poison', 'missed')),
    constraint within_is_positive check (within > '0'),
    constraint gather_is_not_negative check (gather >= '0'),
    constraint pause_is_not_negative check (pause >= '0'),
    constraint repeat_is_positive check (repeat > '0'),
    constraint channels_are_1_to_10_objects check (
        case when jsonb_typeof(channels) = 'array' then
            jsonb_array_length(channels) between 1 and 10
            and not jsonb_path_exists(channels, 'strict $[*] ? (@.type() != "object")')
        else false end
    ),
    constraint channels_are_webhook_slack_dingtalk_or_email check (
        jsonb_array_length(jsonb_path_query_array(
            channels, '$[*].channel ? (@ == "webhook" || @ == "slack" || @ == "dingtalk" || @ == "email")'
        )) = jsonb_array_length(channels)
    ),
    -- The address of a Slack or DingTalk hook is its password.
    constraint hooks_are_named_secrets check (
        not jsonb_path_exists(
            channels, '$[*] ? (@.channel == "slack" || @.channel == "dingtalk").url ? (!(@ like_regex "^\\$\\{secret:"))'
        )
        and not jsonb_path_exists(channels, '$[*].secret ? (!(@ like_regex "^\\$\\{secret:"))')
    ),
    constraint channels_are_at_most_16_kib check (length(channels::text) <= 16384)
);

create table scheduler.alarm_state (
    app           text          not null,
    alarm         text          not null,
    since_at      timestamptz,                 -- it fires since then; null: all is well
    told_at       timestamptz,                 -- a notice said so first; null: not yet
    last_told_at  timestamptz,                 -- the last one that said so, of all times
    hits          bigint        not null default 0,      -- what happened since then, but for what is not settled yet
    recent        timestamptz[] not null default '{}',   -- when the last of it happened, as many as `times` says
    latest        jsonb,                       -- the last of it, for people
    most          jsonb,                       -- how many of which jobs, for people
    subjects      text[]        not null default '{}',   -- no_success: the jobs that had none
    place         text          not null default '',     -- no_success: the job that was looked at last
    constraint alarm_state_pkey primary key (app, alarm),
    constraint alarm_state_of_an_alarm foreign key (app, alarm) references scheduler.alarm (app, name)
        on update cascade on delete cascade
) with (fillfactor = 70);

create table scheduler.alarm_look (
    app       text        not null,
    looked_at timestamptz not null,
    steady_at timestamptz not null,            -- since then the looks have come in time
    cursor_at timestamptz not null,            -- what happened until then is settled: nothing of it will turn up any more
    constraint alarm_look_pkey primary key (app)
) with (fillfactor = 70);

create index alarm_look_due on scheduler.alarm_look (looked_at, app);

-- Of what a look is for only, so that a success and a planned fire are in neither.
create index history_failed on scheduler.history (app, finished_at) where outcome in ('failed', 'lost');
create index fire_missed on scheduler.fire (app, decided_at) where outcome = 'missed';
