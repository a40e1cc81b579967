-- End a dead letter: put its entry back on the stream as a new one, or let it go.
-- KEYS 1 dead letter stream  2 stream
-- ARGV 1 id of the letter  2 back or discard
-- Returns the id of the new entry, 'discarded', 'gone' when somebody ended the letter before, 'trimmed' when
--   the entry itself is no longer on the stream, or 'large' when it has more fields than one command may carry.
-- In one step, so that two people put an entry back once, and a letter ends only where its entry lies again.
local FIELDS_MAX = 1000
local letter = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not letter then
  return 'gone'
end
local done = 'discarded'
if ARGV[2] == 'back' then
  local entry_id = ''
  for at = 1, #letter[2], 2 do
    if letter[2][at] == 'entry' then
      entry_id = letter[2][at + 1]
    end
  end
  local entry = string.match(entry_id, '^%d+%-%d+$') and redis.call('XRANGE', KEYS[2], entry_id, entry_id)[1]
  if not entry then
    return 'trimmed'
  end
  if #entry[2] > 2 * FIELDS_MAX then
    return 'large'
  end
  done = redis.call('XADD', KEYS[2], '*', unpack(entry[2]))
end
redis.call('XDEL', KEYS[1], ARGV[1])
return done
