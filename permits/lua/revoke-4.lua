-- Take permits of one plan back, so that they can never be spent, or say why not. All of them or none.
-- KEYS 1 governor permit  2 p33 permit  3 pair (companion hash)  4 receipt
-- ARGV 1 governor bytes to revoke ('' leaves that permit alone)  2 p33 bytes to revoke (the same)
--      3 pair life ms
-- Returns {1, now ms} revoked; {2, now ms} they were revoked before;
--      or {0, reason, spent at ms or 0, now ms}: already_consumed, missing, changed.
-- The bytes are those that were looked at: what was issued in between is left alone. The companion hash
-- forgets the permits, so that no wake-up carries them, and keeps the word `revoked` where the digest
-- was: the issuing script refuses another digest, so a redelivered plan gets no new permit.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('EXISTS', KEYS[4]) == 1 then
  return {0, 'already_consumed', tonumber(redis.call('HGET', KEYS[4], 'at')) or 0, now}
end

local function standing(key, wanted)
  if wanted == '' then return 'as wanted' end
  local found = redis.pcall('GET', key)
  if not found then return 'missing' end
  return found == wanted and 'as wanted' or 'changed'
end

for _, found in ipairs({standing(KEYS[1], ARGV[1]), standing(KEYS[2], ARGV[2])}) do
  if found == 'missing' and redis.call('HGET', KEYS[3], 'digest') == 'revoked' then return {2, now} end
  if found ~= 'as wanted' then return {0, found, 0, now} end
end

local function take(key, gate, wanted)
  if wanted == '' then return end
  redis.call('DEL', key)
  redis.call('HDEL', KEYS[3], gate, gate .. '_raw')
end

take(KEYS[1], 'governor', ARGV[1])
take(KEYS[2], 'p33', ARGV[2])
redis.call('HSET', KEYS[3], 'digest', 'revoked')
redis.call('PEXPIRE', KEYS[3], ARGV[3])
return {1, now}
