-- Remove a hold's key if it still is what was looked at: a hold that was placed since then stays.
-- KEYS 1 hold of the symbol
-- ARGV 1 its bytes as they were seen
-- Returns 1 when it was removed, 0 when other bytes stand there or none.
-- A value of another type is nobody's hold, freezes the symbol all the same, and is removed.
local standing = redis.pcall('GET', KEYS[1])
if type(standing) == 'table' or standing == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
