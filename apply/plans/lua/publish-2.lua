-- Publish a plan once.
-- KEYS 1 publish-once key of the plan  2 plan stream
-- ARGV 1 life of the publish-once key, s  2 age in ms after which entries are trimmed  3.. field, value, ...
-- Returns the stream id: of this entry, or of the entry an earlier call made.
-- Idempotent by the stored id: a call whose answer was lost is asked again and adds nothing.
local published = redis.call('GET', KEYS[1])
if published then return published end
local time = redis.call('TIME')
local oldest = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[2])
local entry = {'XADD', KEYS[2], 'MINID', '~', string.format('%.0f', oldest), '*'}
for i = 3, #ARGV do entry[#entry + 1] = ARGV[i] end
local id = redis.call(unpack(entry))
redis.call('SET', KEYS[1], id, 'EX', ARGV[1])
return id
