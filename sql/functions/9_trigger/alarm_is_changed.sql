create or replace trigger alarm_is_changed
after insert or update or delete on scheduler.alarm
for each row execute function scheduler.alarm_changed();
comment on trigger alarm_is_changed on scheduler.alarm is 'Alarms go into the audit, and start anew when they are changed.';
