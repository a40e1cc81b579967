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

-- Of two that revoke at once the second finds one gone, and still takes the other.
local before = redis.call('HGET', KEYS[3], 'digest') == 'revoked'
local gone, wanted = 0, 0
for gate = 1, 2 do
  local found = standing(KEYS[gate], ARGV[gate])
  if ARGV[gate] ~= '' then wanted = wanted + 1 end
  if found == 'missing' and before then
    gone = gone + 1
  elseif found ~= 'as wanted' then
    return {0, found, 0, now}
  end
end
if gone > 0 and gone == wanted then return {2, now} end

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
