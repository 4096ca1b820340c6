-- Send the form that reserves a unit: each time for the next visitor, and with a new key.
local common = dofile(os.getenv("BENCHMARK_COMMON"))
local next_visitor, head, middle, fields

function init()
  common.seed_random()
  next_visitor = common.visitors_in_turn()
  local host = common.option("HOST")
  -- Only what differs between requests is put in later: the generator shall cost little.
  head = "POST " .. common.option("PATH") .. " HTTP/1.1\r\nHost: " .. host
    .. "\r\nOrigin: http://" .. host
    .. "\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: "
  middle = "\r\n\r\ncsrfmiddlewaretoken="
  fields = "&product=" .. common.option("PRODUCT") .. "&seen_price="
    .. common.option("PRICE") .. "&quantity=1&key="
end

function request()
  local visitor = next_visitor()
  local key = common.random_uuid()
  local length = #"csrfmiddlewaretoken=" + #visitor.token + #fields + #key
  return head .. length .. "\r\nCookie: " .. visitor.cookies .. middle .. visitor.token
    .. fields .. key
end
