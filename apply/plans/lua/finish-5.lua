-- Tell the end of a plan: its result once, slot and reservation freed, the feed woken.
-- KEYS 1 result-once key of the plan  2 result stream  3 slot of the symbol  4 wake list of the feed
-- KEYS 5 the Governor's reservations
-- ARGV 1 token of the attempt ('' when there was none)  2 '1' when the position moved
-- ARGV 3 life of the result-once key, s  4 plan id  5.. field, value, ...
-- Returns the stream id of the result. Safe to run again after any death: the stored id is given back.
if ARGV[1] ~= '' and redis.call('GET', KEYS[3]) == ARGV[1] then
  redis.call('DEL', KEYS[3])
end
redis.call('HDEL', KEYS[5], ARGV[4])
local published = redis.call('GET', KEYS[1])
if published then return published end
local entry = {'XADD', KEYS[2], 'MAXLEN', '~', 100000, '*'}
for i = 5, #ARGV do entry[#entry + 1] = ARGV[i] end
local id = redis.call(unpack(entry))
redis.call('SET', KEYS[1], id, 'EX', ARGV[3])
if ARGV[2] == '1' then
  redis.call('RPUSH', KEYS[4], '1')
  redis.call('EXPIRE', KEYS[4], 10)
end
return id
