"""Notices of alarms: `{"channel", "notice"}`, as `scheduler.write_notices` writes them into the app `_alarms`.

Webhooks, Slack and DingTalk are requests of the `http` executor, with its rules for internal addresses; e-mail goes
through the server that the worker's environment names. Secrets may stand in the channel, and nowhere in the notice:
that holds what others wrote.
"""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec.structs import replace

from worker.context import Call
from worker.executors import ExecutionFailed, Settings
from worker.executors.http import HttpExecutor
from worker.notice import hooks, mail

APP = "_alarms"
_HOOKS = ("webhook", "slack", "dingtalk")


class AlarmExecutor:
    secret_places = ("channel",)

    def __init__(self, settings: Settings) -> None:
        self._http = HttpExecutor(settings)

    async def execute(self, call: Call) -> dict[str, Any]:
        """`{"status"}` of a hook, `{"accepted", "refused"}` of a mail; ExecutionFailed with the other side's reason."""
        if call.app != APP:  # or whoever may insert a run could send mail to anybody
            raise ExecutionFailed(f"the executor alarm sends what is in the app {APP}, and nothing else", final=True)
        channel, notice = call.spec.get("channel"), call.spec.get("notice")
        if not isinstance(channel, dict) or not isinstance(notice, dict):
            raise ExecutionFailed('bad spec: "channel" and "notice" must be objects', final=True)
        if channel.get("channel") in _HOOKS:
            answer = await self._http.execute(replace(call, spec=hooks.request(channel, notice)))
            hooks.check(channel, answer)
            return {"status": answer["status"]}
        if channel.get("channel") == "email":
            # A thread cannot be stopped; it ends by itself, as each of its steps has a limit.
            return await asyncio.to_thread(mail.send, channel, notice, call.run_id)
        raise ExecutionFailed('bad spec: "channel" must say webhook, slack, dingtalk or email', final=True)

    async def close(self) -> None:
        await self._http.close()
