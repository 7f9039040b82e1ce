"""Notices of alarms: what they say, and the ways on which they go.

wording   the text and the subject of a notice
mail      by SMTP, to the server that the worker's environment names
hooks     the bodies of webhooks, Slack and DingTalk
"""
