"""The requests of webhooks, Slack and DingTalk, as specs of the `http` executor."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any
from urllib.parse import urlencode

from worker.notice import wording
from worker.notice.wording import Notice
from worker.outcome import ExecutionFailed

Channel = dict[str, Any]


def request(channel: Channel, notice: Notice) -> dict[str, Any]:
    """The request of a channel. ExecutionFailed, not to be tried again, for one that cannot be made."""
    url = channel.get("url")
    if not isinstance(url, str):
        raise ExecutionFailed(f'a channel "{channel["channel"]}" needs a "url"', final=True)
    if channel["channel"] == "slack":
        # Its own marks would make links and shouts (<!channel>) of what somebody else wrote into an error.
        safe = wording.text(notice).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return {"url": url, "json": {"text": safe}}
    if channel["channel"] == "dingtalk":
        body = {"msgtype": "text", "text": {"content": wording.text(notice)}}
        return {"url": _signed(url, channel.get("secret")), "json": body}
    body = {**notice, "subject": wording.subject(notice), "text": wording.text(notice), "look": wording.look(notice)}
    return {"url": url, "json": body, "headers": channel.get("headers") or {}}


def check(channel: Channel, answer: dict[str, Any]) -> None:
    """DingTalk answers 200 to what it refuses, and says so in the body."""
    if channel["channel"] != "dingtalk":
        return
    try:
        said = json.loads(answer["body"])
        refused = said.get("errcode")
    except (ValueError, AttributeError):
        raise ExecutionFailed("DingTalk's answer is no JSON object") from None
    if refused != 0:
        raise ExecutionFailed(f"DingTalk refused the notice: errcode {refused}, {said.get('errmsg')}"[:300])


def _signed(url: str, secret: str | None) -> str:
    """With the time in milliseconds and its HMAC-SHA256. DingTalk takes it for an hour: each attempt signs anew."""
    if not secret:
        return url
    timestamp = str(round(time.time() * 1000))
    digest = hmac.new(secret.encode(), f"{timestamp}\n{secret}".encode(), hashlib.sha256).digest()
    query = urlencode({"timestamp": timestamp, "sign": base64.b64encode(digest).decode()})
    return f"{url}{'&' if '?' in url else '?'}{query}"
