r"""Crontabs: from a file's text to definitions that do the same, or to the reason why one cannot.

file ─▶ lines ─▶ settings (NAME=value) ─▶ jobs, with their names and remarks; refusals, with their line numbers

reading   the whole walk: what a crontab says, line by line
text      bytes → lines; what is no text is refused
setting   NAME=value lines, quoted as in cron
fields    the time fields of a line, as cron reads them
command   the command of a line: `%`, `\%`, standard input
naming    stable names, so that importing again updates instead of doubling
machine   what is to be asked of this machine: the file, its time zone, its users

The reference is Debian's cron (3.0pl1), whose source decides where manuals are silent; cronie's CRON_TZ is understood.
"""

from scheduler.crontab.reading import Crontab, Entry, Reading, Remark, read_crontab

__all__ = ["Crontab", "Entry", "Reading", "Remark", "read_crontab"]
