-- Park a poison entry: acknowledge it and keep a safe text of what was wrong, in one step.
-- KEYS 1 stream  2 dead letter stream
-- ARGV 1 group  2 entry id  3 error  4 sample  5 deliveries
-- Returns 1 when this call parked it, 0 when it was already acknowledged.
-- The acknowledgement decides, so an entry is parked once however often this runs.
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then
  return 0
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 10000, '*', 'entry', ARGV[2], 'group', ARGV[1],
  'error', ARGV[3], 'sample', ARGV[4], 'deliveries', ARGV[5])
return 1
