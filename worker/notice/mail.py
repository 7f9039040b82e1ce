"""Notices by e-mail, with smtplib, through the server that SCHEDULER_SMTP_URL names.

`smtp://[user:password@]host[:port]` uses STARTTLS when the server offers it (port 587), `smtps://` TLS from the start
(465). A password is not sent without TLS, but to this machine itself.
"""

from __future__ import annotations

import hashlib
import os
import smtplib
import ssl
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate
from typing import Any
from urllib.parse import unquote, urlsplit

from worker.notice import wording
from worker.notice.wording import Notice
from worker.outcome import ExecutionFailed

URL = "SCHEDULER_SMTP_URL"
FROM = "SCHEDULER_SMTP_FROM"
PATIENCE = 20.0  # seconds for each step of the conversation
PORTS = {"smtp": 587, "smtps": 465}
MOST = 50  # recipients
_LOCAL = {"localhost", "127.0.0.1", "::1"}


def send(channel: dict[str, Any], notice: Notice, run: int) -> dict[str, Any]:
    """Blocks until the server has it; `{"accepted": […], "refused": […]}`. ExecutionFailed with the server's reason."""
    message = _message(channel, notice, run)
    parts = urlsplit(os.environ.get(URL, ""))
    if parts.scheme not in PORTS or not parts.hostname:
        raise ExecutionFailed(f"this worker's environment has no {URL}, like smtps://user:password@mail.example.com")
    try:
        port = parts.port or PORTS[parts.scheme]
    except ValueError:
        raise ExecutionFailed(f"{URL} has a bad port") from None
    where = f"{parts.hostname} port {port}"
    try:
        with _opened(parts.scheme, parts.hostname, port) as server:
            if parts.scheme == "smtp" and server.has_extn("starttls"):
                server.starttls(context=ssl.create_default_context())
                server.ehlo()
            if parts.username:
                if not isinstance(server.sock, ssl.SSLSocket) and parts.hostname not in _LOCAL:
                    raise ExecutionFailed(f"{where} offers no STARTTLS, and a password is not sent without TLS")
                server.login(unquote(parts.username), unquote(parts.password or ""))
            refused = server.send_message(message)
    except smtplib.SMTPRecipientsRefused as error:
        raise ExecutionFailed(f"{where} refused all recipients: {_refusals(error.recipients)}") from None
    except smtplib.SMTPResponseException as error:
        raise ExecutionFailed(f"{where} answered {error.smtp_code} {_line(error.smtp_error)}") from None
    except (smtplib.SMTPException, OSError) as error:
        raise ExecutionFailed(f"{where}: {type(error).__name__}: {_line(str(error))}") from None
    return {"accepted": [one for one in channel["to"] if one not in refused], "refused": sorted(refused)}


def _opened(scheme: str, host: str, port: int) -> smtplib.SMTP:
    if scheme == "smtps":
        server: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=PATIENCE, context=ssl.create_default_context())
    else:
        server = smtplib.SMTP(host, port, timeout=PATIENCE)
    server.ehlo()
    return server


def _message(channel: dict[str, Any], notice: Notice, run: int) -> EmailMessage:
    to = channel.get("to")
    if not isinstance(to, list) or not 1 <= len(to) <= MOST or not all(isinstance(one, str) for one in to):
        raise ExecutionFailed(f'a channel "email" needs "to", an array of 1 to {MOST} addresses', final=True)
    sender = os.environ.get(FROM) or "walclock@localhost"
    message = EmailMessage()
    try:
        message["From"] = Address(addr_spec=sender)
        message["To"] = [Address(addr_spec=one) for one in to]
    except ValueError as error:
        raise ExecutionFailed(f"bad address: {_line(str(error))}", final=True) from None
    message["Subject"] = " ".join(wording.subject(notice).split())
    message["Date"] = formatdate()
    # The same for all attempts of a run, so that who gets it twice can tell; all notices of an alarm are one thread.
    host = sender.rpartition("@")[2]
    message["Message-ID"] = f"<walclock-{run}@{host}>"
    alarm = hashlib.sha256(f"{notice['app']}\0{notice['alarm']}".encode()).hexdigest()[:16]
    message["References"] = f"<walclock-alarm-{alarm}@{host}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(wording.text(notice) + "\n")
    return message


def _refusals(recipients: dict[str, tuple[int, bytes]]) -> str:
    return ", ".join(f"{one}: {code} {_line(said)}" for one, (code, said) in recipients.items())[:300]


def _line(text: bytes | str) -> str:
    decoded = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return " ".join(decoded.split())[:200]
