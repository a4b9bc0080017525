def index():
return "hello"
